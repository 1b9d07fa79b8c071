"""Models on the Hugging Face Hub, or on another server that speaks its API: what goes up, and how."""
