"""Gather the demo model's corpus: English prose out of permissively licensed HTML manuals.

    python tools/train_demo/gather_corpus.py --work DIR

Two kinds of source are read:

* Debian documentation packages (``SOURCES`` below). They are fetched with ``apt-get download``
  and unpacked with ``dpkg-deb -x`` under ``DIR/packages``; nothing is installed.
* The HTML books and the standard-library pages that ship with a Rust toolchain
  (the ``rust-docs`` component of rustup).

Written to DIR:

* ``train.txt``, ``val.txt``: documents separated by a line holding only ``DOCUMENT_MARK``. One
  document in 80 goes to validation, chosen by a hash of its name, so the split does not depend on
  the order in which files are found.
* ``technical_english.txt``: the sample text of ``assets/text``, built from ``SAMPLE_DOCUMENTS``.
  Those documents, and every paragraph that also occurs in them, are kept out of train and val.
* ``sources.json``: characters kept per source, for the model card.
"""

import argparse
import hashlib
import html.parser
import json
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

DOCUMENT_MARK = "\x1e"

# package (or "rust"), licence of the documentation, part of the path that a page must have (a
# regular expression), part of the path that it must not have.
SOURCES = [
    ("rust", "MIT OR Apache-2.0",
     r"html/(book|reference|cargo|rustc|rustdoc|nomicon|rust-by-example|edition-guide|embedded-book"
     r"|error_codes|unstable-book|style-guide|clippy|alloc|std)/",
     r"print\.html|/(es|ja|ko|zh|de|fr|pt|ru)/|/arch/|book/(first|second|2018)-edition"),
    ("python3.11-doc", "PSF-2.0", r"\.html", r"whatsnew/changelog|genindex|/_modules/"),
    ("postgresql-doc-15", "PostgreSQL", r"\.html", r"/release-"),
    ("sqlite3-doc", "public domain", r"\.html", r"releaselog/|/session/"),
    ("apache2-doc", "Apache-2.0", r"manual/en/", r"quickreference|/directives\.html"),
    ("llvm-14-doc", "Apache-2.0 WITH LLVM-exception", r"\.html", r"genindex"),
    ("clang-14-doc", "Apache-2.0 WITH LLVM-exception", r"\.html", r"genindex|ClangFormatStyleOptions"),
    ("nodejs-doc", "MIT", r"api/[^/]*\.html", r"api/all\.html"),
    ("python-django-doc", "BSD-3-Clause", r"\.html", r"genindex|/_modules/"),
    ("python-sqlalchemy-doc", "MIT", r"\.html", r"genindex|/changelog/|/_modules/"),
    ("libboost1.74-doc", "BSL-1.0", r"\.html", r"/headers/|header/boost"),
    ("cython-doc", "Apache-2.0", r"\.html", r"genindex"),
    ("varnish-doc", "BSD-2-Clause", r"\.html", r"genindex"),
]

# Held-out documents of assets/text/technical_english.txt: (package, names of pages in order).
SAMPLE_DOCUMENTS = [
    ("sqlite3-doc", [
        "wal.html", "queryplanner.html", "whentouse.html", "arch.html", "isolation.html",
        "appfileformat.html", "howtocorrupt.html", "fasterthanfs.html",
    ]),
    ("krb5-doc", [
        "basic/ccache_def.html", "admin/princ_dns.html", "admin/realm_config.html", "admin/enctypes.html",
        "admin/lockout.html", "admin/advanced/retiring-des.html",
    ]),
    ("rust", [
        "nomicon/meet-safe-and-unsafe.html", "nomicon/safe-unsafe-meaning.html",
        "nomicon/what-unsafe-does.html", "nomicon/working-with-unsafe.html", "nomicon/repr-rust.html",
        "nomicon/aliasing.html", "nomicon/subtyping.html", "nomicon/dropck.html", "nomicon/leaking.html",
        "nomicon/unwinding.html", "nomicon/races.html", "nomicon/atomics.html",
    ]),
]

BLOCK_TAGS = {"p", "li", "dd", "dt", "h1", "h2", "h3", "h4", "td", "th", "div", "section", "ul", "ol",
              "dl", "table", "tr", "blockquote", "body", "main", "article", "hr"}
SKIPPED_TAGS = {"pre", "script", "style", "nav", "table", "header", "footer", "button", "title", "sup"}
STOPWORDS = re.compile(r"\b(the|a|an|is|are|of|to|and|in|for|this|that|with|be)\b", re.I)
TIDY = str.maketrans({"\u2018": "'", "\u2019": "'", "\u201c": '"', "\u201d": '"', "\u2013": "-",
                      "\u2014": "-", "\u2026": "...", "\xa0": " ", "\xb6": "", "\xa7": "",
                      "\u200b": "", "\u2011": "-"})


@dataclass
class Block:
    """One paragraph, list item or heading of a page."""
    kind: str
    text: str


class ProseParser(html.parser.HTMLParser):
    """Splits a page into blocks, leaving out code listings, tables, scripts and navigation.

    Menus need no per-site rule: a block more than half of whose characters are link text is one.
    Some generators make every heading a link to itself; `linked_headings` keeps those.
    """

    def __init__(self, linked_headings):
        super().__init__(convert_charrefs=True)
        self.linked_headings = linked_headings
        self.blocks = []
        self.kind, self.parts, self.link_chars = "p", [], 0
        self.skip_depth, self.in_link = 0, False

    def flush(self, next_kind="p"):
        raw = "".join(self.parts)
        text = re.sub(r"\s+", " ", raw.translate(TIDY)).strip()
        is_menu = self.link_chars * 2 > len(text) and not (self.kind == "h" and self.linked_headings)
        if text and not is_menu:
            self.blocks.append(Block(self.kind, text))
        self.kind, self.parts, self.link_chars = next_kind, [], 0

    def handle_starttag(self, tag, attrs):
        if tag in SKIPPED_TAGS:
            self.flush()
            if tag in ("pre", "table") and self.blocks:
                # What the last sentence announces ("For example:") is left out: so is the sentence.
                last = self.blocks[-1]
                last.text = re.sub(r"(^|(?<=[.!?]) )[^.!?]*:$", "", last.text)
            self.skip_depth += 1
        elif tag in BLOCK_TAGS:
            self.flush("h" if re.fullmatch(r"h[1-4]", tag) else "li" if tag in ("li", "dd") else "p")
        elif tag == "a":
            self.in_link = True
        elif tag == "br":
            self.parts.append(" ")

    def handle_endtag(self, tag):
        if tag in SKIPPED_TAGS:
            self.skip_depth = max(0, self.skip_depth - 1)
        elif tag in BLOCK_TAGS:
            self.flush()
        elif tag == "a":
            self.in_link = False

    def handle_data(self, data):
        if self.skip_depth == 0:
            self.parts.append(data)
            if self.in_link:
                self.link_chars += len(data)


def is_prose(text):
    """A sentence or more of mostly alphabetic English, in printable ASCII."""
    if len(text) < 40 or len(text.split()) < 7 or not text.isascii():
        return False
    plain = sum(c.isalpha() or c == " " for c in text)
    return plain >= 0.85 * len(text) and len(STOPWORDS.findall(text)) >= 2


def page_blocks(path, linked_headings=False):
    """Blocks of one HTML page that are prose, and the headings that have prose under them."""
    parser = ProseParser(linked_headings)
    parser.feed(path.read_text(encoding="utf-8", errors="replace"))
    parser.flush()
    kept, heading = [], None
    for block in parser.blocks:
        if block.kind == "h":
            text = re.sub(r"^[\d.]+ ", "", block.text).strip(" #")
            heading = Block("h", text) if 3 <= len(text) <= 80 and text.isascii() else None
        elif is_prose(block.text):
            if heading:
                kept.append(heading)
                heading = None
            kept.append(block)
    return kept


def render(blocks):
    """Blocks as plain text: list items on lines of their own, a blank line around the rest."""
    out = []
    for before, block in zip([None] + blocks, blocks):
        if before is not None:
            out.append("\n" if before.kind == block.kind == "li" else "\n\n")
        out.append(("- " if block.kind == "li" else "") + block.text)
    return "".join(out)


def new_blocks(blocks, seen):
    """The blocks whose text was not seen before (in this document or another); records them."""
    kept = []
    for block in blocks:
        digest = hashlib.blake2b(re.sub(r"[^a-z]", "", block.text.lower()).encode(), digest_size=12).digest()
        if block.kind == "h" or digest not in seen:
            if block.kind != "h":
                seen.add(digest)
            kept.append(block)
    # A heading followed by a heading, or by nothing, lost its text to the duplicates.
    return [b for b, after in zip(kept, kept[1:] + [None]) if b.kind != "h" or (after and after.kind != "h")]


def source_root(name, packages):
    """Directory with the pages of a source, fetching a Debian package if it is not there yet."""
    if name == "rust":
        sysroot = subprocess.run(["rustc", "--print", "sysroot"], check=True, text=True, capture_output=True)
        return Path(sysroot.stdout.strip()) / "share/doc/rust"
    root = packages / name
    if not root.exists():
        packages.mkdir(parents=True, exist_ok=True)
        subprocess.run(["apt-get", "download", name], check=True, cwd=packages)
        archive = next(packages.glob(f"{name}_*.deb"))
        subprocess.run(["dpkg-deb", "-x", archive, root], check=True)
    return root


def build_sample(roots, seen):
    """The sample text and the set of the pages it was made from."""
    documents, paths = [], set()
    for name, pages in SAMPLE_DOCUMENTS:
        for page in pages:
            path = min(roots[name].rglob(page), key=lambda p: len(p.parts))
            paths.add(path)
            documents.append(render(new_blocks(page_blocks(path, linked_headings=True), seen)))
    return "\n\n".join(documents) + "\n", paths


def main():
    cli = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    cli.add_argument("--work", type=Path, required=True)
    work = cli.parse_args().work
    packages = work / "packages"
    names = {name for name, *_ in SOURCES + SAMPLE_DOCUMENTS}
    roots = {name: source_root(name, packages) for name in sorted(names)}

    # The sample text comes first, so that its paragraphs are already "seen" when training
    # documents are deduplicated.
    seen = set()
    sample, sample_paths = build_sample(roots, seen)
    (work / "technical_english.txt").write_text(sample, encoding="utf-8")

    split = {"train": [], "val": []}
    sizes = {}
    for name, licence, wanted, unwanted in SOURCES:
        kept = 0
        for path in sorted(roots[name].rglob("*.html")):
            where = str(path.relative_to(roots[name]))
            if path in sample_paths or not re.search(wanted, where) or re.search(unwanted, where):
                continue
            text = render(new_blocks(page_blocks(path), seen))
            if len(text) < 300:
                continue
            bucket = int(hashlib.blake2b(f"{name}/{where}".encode(), digest_size=4).hexdigest(), 16) % 80
            split["val" if bucket == 0 else "train"].append(text)
            kept += len(text)
        sizes[name] = {"licence": licence, "characters": kept}
        print(f"{name:24} {kept / 1e6:7.2f} MB  {licence}", flush=True)
    for part, documents in split.items():
        (work / f"{part}.txt").write_text(f"\n{DOCUMENT_MARK}\n".join(documents), encoding="utf-8")
        print(part, len(documents), "documents", sum(map(len, documents)), "characters")
    (work / "sources.json").write_text(json.dumps(sizes, indent=1))


if __name__ == "__main__":
    main()
