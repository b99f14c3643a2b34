import sys

said = ""
for name in ("stdin", "stdout", "stderr"):
    stream = getattr(sys, name)
    said += f"{name} {stream is getattr(sys, f'__{name}__')} "
    if stream is not None:
        said += f"{stream.encoding} {stream.errors} {stream.line_buffering} {stream.name} {stream.mode} {stream.newlines} "
        said += f"{type(stream.buffer).__name__} {stream.write_through} {stream.isatty()} {stream.fileno()}"
    said += "\n"
with open("seen", "a") as file:
    file.write(said)
