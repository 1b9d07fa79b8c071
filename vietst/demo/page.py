"""The page, in Gradio, and how it is served. Nothing is fetched from other hosts, nor told to them."""

import os
import signal
import sys
import tempfile
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

from vietst.constants import TRANSLATE
from vietst.demo.listener import Limits, Listener, Translator, in_words
from vietst.errors import VietstError
from vietst.pages import filled

_MAX_WAITING: Final = 32
"""Users who wait for their turn; one more is told to try again later."""

_KEPT_S: Final = 3600
"""How long an uploaded recording stays on the disk: its player needs it."""
_SWEPT_EVERY_S: Final = 600

_FONTS: Final = ("system-ui", "Segoe UI", "Roboto", "Noto Sans", "DejaVu Sans", "sans-serif")
"""Of the reader's system: Gradio's own lack Vietnamese letters, and others would come from a network."""

_READABLE: Final = {
    "button_primary_background_fill": "*primary_700",
    "button_primary_background_fill_dark": "*primary_700",
    "button_primary_background_fill_hover": "*primary_800",
    "button_primary_background_fill_hover_dark": "*primary_800",
    "button_primary_text_color": "white",
    "button_primary_text_color_dark": "white",
    "body_text_color_subdued": "*neutral_600",
    "body_text_color_subdued_dark": "*neutral_300",
    "block_label_text_color": "*neutral_700",
    "block_label_text_color_dark": "*neutral_200",
}
"""Gradio's own colours of these are below WCAG's contrast of 4.5 : 1."""


def import_gradio() -> Any:
    """Gradio, without its telemetry.

    Raises:
        VietstError: it is not installed.
    """
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    try:
        import gradio
    except ModuleNotFoundError as error:
        raise VietstError(
            where="the demo's page",
            rule="Gradio 6 is installed (the extra `demo`)",
            found=str(error),
            do='install it: pip install -e ".[demo]" (or: pip install "gradio>=6.31,<7")',
        ) from None
    return gradio


def make_page(translator: Translator, limits: Limits) -> Any:
    """The page as a `gradio.Blocks` with its queue."""
    gradio = import_gradio()
    listener = Listener(translator, limits)
    with gradio.Blocks(
        title="Vietnamese–English speech", analytics_enabled=False, delete_cache=(_SWEPT_EVERY_S, _KEPT_S)
    ) as page:
        gradio.HTML(_introduction(translator, limits), elem_classes="introduction")
        recording = gradio.Audio(
            sources=["upload", "microphone"],
            type="filepath",
            label="Recording · Bản ghi âm",
            editable=False,
            elem_classes="recording",
            buttons=[],
        )
        button = gradio.Button("Transcribe · Chép lời", variant="primary", size="lg")
        result = gradio.HTML(
            label="What was said", html_template='<div role="status">${value}</div>', min_height=60
        )

        def hear(path: str | None) -> str:
            return _with_its_recording(listener.hear(path), path)

        heard = gradio.Textbox(visible="hidden")
        hearing = button.click(
            *(hear, recording, heard),
            show_progress_on=result,
            trigger_mode="always_last",
            concurrency_limit=1,
            api_name="transcribe",
        )
        # What was said belongs to the recording above it. One that is taken away meanwhile is heard to its
        # end: Gradio does not stop what it cancels, misses what has just begun, and shows an error for it.
        hearing.then(fn=None, js=_IF_ITS_RECORDING_IS_THERE, inputs=[heard, recording], outputs=result)
        gradio.on(
            [recording.clear, recording.upload, recording.start_recording],
            fn=None,
            js="() => ''",
            outputs=result,
        )
    page.queue(max_size=_MAX_WAITING)
    return page


def _with_its_recording(html: str, path: str | None) -> str:
    """What was said, and the end of the path that Gradio gives a file by its content."""
    name = "" if path is None else "/".join(Path(path).parts[-2:])
    return f'<div data-recording="{escape(name)}">{html}</div>'


_IF_ITS_RECORDING_IS_THERE: Final = """(html, recording) => {
    const heard = new DOMParser().parseFromString(html, "text/html").querySelector("[data-recording]");
    const name = recording ? recording.path.split(/[\\\\/]/).slice(-2).join("/") : "";
    return heard && heard.dataset.recording === name ? html : "";
}"""


def _introduction(translator: Translator, limits: Limits) -> str:
    name = translator.model_name
    return filled(
        "demo_introduction.html",
        translates=TRANSLATE in translator.tasks,
        model_name=Path(name).resolve().name if Path(name).exists() else name,  # no path of this machine
        device=translator.device,
        max_duration=in_words(limits.max_duration_s),
        max_upload_mb=limits.max_upload_mb,
    )


def serve(page: Any, limits: Limits, *, host: str | None, port: int | None, share: bool) -> None:
    """Serve the page until the process is stopped.

    Args:
        host: address to listen at, and `port`; None: the environment's GRADIO_SERVER_NAME and
            GRADIO_SERVER_PORT, as a Space sets them, else 127.0.0.1 and the first free port from 7860 on.
        share: also at a public address of Gradio's, through its servers.

    Raises:
        VietstError: no such address here, or the port is taken.
    """
    gradio = import_gradio()
    templates = files("vietst").joinpath("templates")
    theme = gradio.themes.Default(primary_hue="blue", font=_FONTS, font_mono=("ui-monospace", "monospace"))
    try:
        _, local_url, share_url = page.launch(
            server_name=host,
            server_port=port,
            share=share,
            max_file_size=limits.max_upload_bytes,
            theme=theme.set(**_READABLE),
            css=templates.joinpath("demo.css").read_text(encoding="utf-8"),
            head=templates.joinpath("demo_head.html").read_text(encoding="utf-8"),
            footer_links=[],
            run_history=False,
            enable_monitoring=False,
            ssr_mode=False,
            quiet=True,
            prevent_thread_lock=True,
        )
    except (OSError, ValueError) as error:  # the latter where a proxy hides the machine from itself
        raise VietstError(
            where="--host and --port",
            rule="an address of this machine that it reaches itself, and a free port",
            found=str(error),
            do="name another port, or leave --port out",
        ) from None
    print(f"Open {share_url or local_url} in a browser. Ctrl-C ends this.", flush=True)
    page.block_thread()


def run_demo(
    model: str, limits: Limits, *, host: str | None = None, port: int | None = None, share: bool = False
) -> None:
    """Load a model and serve its page until the process is stopped; see `serve`.

    Uploaded recordings lie in a folder of this process's own, which goes with it.

    Args:
        model: folder or Hub id.
    """
    import_gradio()  # what is missing is said before a model is loaded
    from vietst.inference import SpeechTranslator

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # as containers are stopped; else the folder stays
    with tempfile.TemporaryDirectory(prefix="vietst-demo-") as folder:
        os.environ["GRADIO_TEMP_DIR"] = folder
        translator = SpeechTranslator.from_pretrained(model)
        serve(make_page(translator, limits), limits, host=host, port=port, share=share)
