"""The manual: Sphinx with MyST (Markdown) and Furo. `make docs` builds it; every warning is an error there."""

from importlib.metadata import version as installed

project = "rocksyd"
author = "The rocksyd authors"
copyright = "The rocksyd authors"
release = installed("rocksyd")
version = release

extensions = ["myst_parser"]
myst_enable_extensions = ["colon_fence", "deflist", "tasklist"]
myst_heading_anchors = 3
exclude_patterns = ["_build"]
source_suffix = {".md": "markdown"}

html_theme = "furo"
html_title = f"rocksyd {release}"
html_copy_source = False
# Nothing is loaded from elsewhere: the manual reads the same without a network.
html_theme_options = {"light_css_variables": {"font-stack": "system-ui, sans-serif"}}

nitpicky = True
# Blocks that are neither code of a language nor a conversation are left uncoloured.
highlight_language = "text"
