"""A web page on which people speak or upload a recording, and read it; needs the extra `demo` (Gradio)."""
