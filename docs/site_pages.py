"""A hook of mkdocs: the repository's own pages (README as the first one) are pages of the site too."""

from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parent.parent
PAGES = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "CONTRIBUTING.md",
    "CHANGELOG.md": "CHANGELOG.md",
    "LICENSE": "LICENSE",
    "CITATION.cff": "CITATION.cff",
}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add them, their links counting from the site's root."""
    for name, called in PAGES.items():
        text = (ROOT / name).read_text(encoding="utf-8")
        for before in ("](", 'src="', 'srcset="'):
            text = text.replace(f"{before}docs/", before)
        files.append(File.generated(config, called, content=text))
    return files


def on_page_markdown(markdown: str, **_: object) -> str:
    """Links of the docs to the repository's own pages lead to those."""
    for name, called in PAGES.items():
        markdown = markdown.replace(f"](../{name}", f"]({called}")
    return markdown
