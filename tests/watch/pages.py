"""Reading HTML as a person does who sees it, or hears it."""

from html.parser import HTMLParser


class Element:
    def __init__(self, tag, attrs, parent):
        self.tag, self.attrs, self.parent = tag, dict(attrs), parent
        self.children, self.texts = [], []

    def walk(self):
        yield self
        for child in self.children:
            yield from child.walk()

    def find(self, tag=None, cls=None, **attrs):
        """Elements below that have the tag, the class, and the attributes."""
        wanted = {key.rstrip("_").replace("_", "-"): value for key, value in attrs.items()}
        return [
            e
            for e in self.walk()
            if (tag is None or e.tag == tag)
            and (cls is None or cls in e.attrs.get("class", "").split())
            and all(e.attrs.get(key) == value for key, value in wanted.items())
        ]

    @property
    def hidden(self):
        return "hidden" in self.attrs or (self.parent is not None and self.parent.hidden)

    @property
    def text(self):
        """What can be seen of it."""
        if "hidden" in self.attrs or self.tag == "title":
            return ""
        parts = [p if isinstance(p, str) else p.text for p in self.texts]
        return " ".join(" ".join(parts).split())


class _Reader(HTMLParser):
    def __init__(self):
        super().__init__()
        self.root = self.at = Element("root", [], None)

    def handle_starttag(self, tag, attrs):
        element = Element(tag, attrs, self.at)
        self.at.children.append(element)
        self.at.texts.append(element)
        if tag not in {"img", "input", "br"}:
            self.at = element

    def handle_startendtag(self, tag, attrs):
        element = Element(tag, attrs, self.at)
        self.at.children.append(element)
        self.at.texts.append(element)

    def handle_endtag(self, tag):
        assert self.at.tag == tag, f"</{tag}> closes <{self.at.tag}>"
        self.at = self.at.parent

    def handle_data(self, data):
        self.at.texts.append(data)


def read(html: str) -> Element:
    """The tree of an HTML fragment, each element closed where it must be."""
    reader = _Reader()
    reader.feed(html)
    reader.close()
    assert reader.at is reader.root, f"<{reader.at.tag}> is not closed"
    return reader.root
