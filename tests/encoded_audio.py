"""Sound and video files as ffmpeg's libraries write them."""

import io

import av
import numpy as np


def encoded(
    format_name: str,
    codec: str,
    samples: np.ndarray,
    rate: int,
    *,
    delay_s: float = 0.0,
    gap_s: float = 0.0,
    options: dict[str, str] | None = None,
) -> bytes:
    """A file with the samples on both channels; with a delay, a picture comes before the sound.

    Args:
        samples: float32 [num_samples].
        gap_s: without sound, in the middle of it.
        options: of the codec.
    """
    file = io.BytesIO()
    with av.open(file, "w", format=format_name) as container:
        picture = container.add_stream("mjpeg", rate=10, width=32, height=32) if delay_s else None
        if picture is not None:
            picture.pix_fmt = "yuvj420p"
        stream = container.add_stream(codec, rate=rate, layout="stereo", options=options or {})
        if picture is not None:
            image = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="rgb24")
            for index in range(3):
                image.pts = index
                container.mux(picture.encode(image.reformat(format="yuvj420p")))
            container.mux(picture.encode(None))
        frame = av.AudioFrame.from_ndarray(np.stack([samples, samples]), format="fltp", layout="stereo")
        frame.sample_rate = rate
        frame.pts = round(delay_s * rate)
        converter = av.AudioResampler(
            format=stream.format.name, layout="stereo", rate=rate, frame_size=stream.frame_size or 1024
        )
        parts = [*converter.resample(frame), *converter.resample(None), None]
        for packet in [packet for part in parts for packet in stream.encode(part)]:
            if packet.pts * packet.time_base >= delay_s + len(samples) / rate / 2:
                packet.pts += round(gap_s / packet.time_base)
                packet.dts = packet.pts
            container.mux(packet)
    return file.getvalue()
