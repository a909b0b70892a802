"""Answers of APIs in pages: links of every kind, behind proxies, and without an end."""

from __future__ import annotations

import pytest

from geoforest.errors import GeoforestWarning, InputError
from geoforest.scenes.stac.search import build_question, search
from tests.helpers import stac
from tests.helpers.stac_api import stac_api

# Nobody listens there.
NOWHERE = "http://127.0.0.1:1"
QUESTION = build_question(collections=["sentinel-2-l2a"], bbox=(-63, -10, -62.9, -9.9))


def item(number: int, own: str | None = None):
    document = stac.item(item_id=f"X{number}", datetime=f"2023-08-{number:02d}T14:00:00Z")
    links = [{"rel": "self", "href": own}] if own else []
    return {**document, "links": links}


@pytest.fixture
def api():
    with stac_api() as api:
        api.pages = [[item(number)] for number in (1, 2, 3)]
        yield api


def ids(api):
    return [one.item_id for one in search(api.url, QUESTION)]


@pytest.mark.parametrize(
    "link",
    [
        lambda n, root: {"href": f"{root}/search?token=p{n}"},
        lambda n, root: {"href": f"./search?token=p{n}"},
        lambda n, root: {"href": f"?token=p{n}"},
        lambda n, root: {"href": f"/stac/search?token=p{n}", "method": "get"},
        lambda n, root: {"href": f"{root}/search", "method": "POST", "body": {"token": f"p{n}"}},
        lambda n, root: {"href": f"{NOWHERE}/search?token=p{n}"},
        lambda n, root: {"href": f"{NOWHERE}/x", "method": "POST", "body": {"token": f"p{n}"}},
    ],
)
def test_links_of_every_kind(api, link):
    api.next_link = lambda number, root: {"rel": "next", **link(number, root)}
    assert ids(api) == ["X1", "X2", "X3"]
    assert len(api.searches()) == 3


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_parameters_that_are_to_be_merged(api, method):
    api.next_link = lambda number, root: {
        "rel": "next",
        "href": f"{root}/search",
        "method": method,
        "merge": True,
        "body": {"token": f"p{number}"},
    }
    assert ids(api) == ["X1", "X2", "X3"]
    last_method, last = api.searches()[-1]
    assert last_method == method
    wanted = (["sentinel-2-l2a"], [-63, -10, -62.9, -9.9])
    if method == "GET":
        wanted = ("sentinel-2-l2a", "-63.0,-10.0,-62.9,-9.9")
    assert (last["collections"], last["bbox"]) == wanted


@pytest.mark.parametrize(
    ("link", "sentence"),
    [
        (lambda n, root: {"href": f"{root}/stac/search?token=p{n}"}, "page 2 .* answers 404"),
        (lambda n, root: {"href": f"{root}/text?token=p{n}"}, "page 2 is no answer of a search"),
        (lambda n, root: {"href": "http://[x/search"}, "the link to its next page is"),
        (lambda n, root: {"href": "file:///etc/passwd"}, "the link to its next page is"),
        (lambda n, root: {}, "the link to its next page is"),
        (lambda n, root: {"href": f"{root}/search", "method": "PUT"}, "the link to its next page"),
    ],
)
def test_a_page_that_cannot_be_had_is_no_end(api, link, sentence):
    """Never page 1 alone as if it were all."""
    api.documents["/stac/text"] = {"detail": "an error that says 200"}
    api.next_link = lambda number, root: {"rel": "next", **link(number, root)}
    with pytest.raises(InputError, match=sentence):
        ids(api)


@pytest.mark.parametrize(
    "link",
    [
        lambda n, root: {"href": f"{root}/search?token=p1"},
        # A token that is new each time, of the same page.
        lambda n, root: {"href": f"{root}/search?token=p1&again={api_count(n)}"},
        lambda n, root: {"href": f"{root}/search", "method": "POST", "body": {"token": "p1"}},
    ],
)
def test_pages_without_end(api, link):
    api.next_link = lambda number, root: {"rel": "next", **link(number, root)}
    with pytest.raises(InputError, match="its answer has no end"):
        ids(api)
    assert len(api.searches()) < 20


_counter = iter(range(10**9))


def api_count(_number: int) -> int:
    return next(_counter)


def test_an_empty_page_is_not_the_last(api):
    api.pages = [[item(1)], [], [item(3)]]
    api.next_link = lambda number, root: {"rel": "next", "href": f"?token=p{number}"}
    assert ids(api) == ["X1", "X3"]


@pytest.mark.parametrize("extra", [{"numberMatched": 3}, {"context": {"matched": 3}}])
def test_items_that_are_counted_and_not_given(api, extra):
    api.extra = extra
    with pytest.warns(GeoforestWarning, match="says that 3 items match, and gave 1; some may be"):
        assert ids(api) == ["X1"]


@pytest.mark.parametrize("inner", [f"{NOWHERE}/search", "/search"])
def test_a_search_that_only_the_proxy_knows(api, inner):
    api.search_link = inner
    api.pages = [[item(1)]]
    assert ids(api) == ["X1"]


class TestPlacesOfItems:
    USUAL = "/stac/collections/sentinel-2-l2a/items/X1"

    @pytest.mark.parametrize("own", [f"{NOWHERE}/collections/a/items/X1", "/collections/items/X1"])
    def test_that_only_the_proxy_knows(self, api, own):
        api.pages = [[item(1, own), item(2, own)]]
        api.documents[self.USUAL] = item(1, own)
        found = search(api.url, QUESTION)
        root = api.url.removesuffix("/stac")
        assert [one.location for one in found] == [
            f"{root}{self.USUAL}",
            f"{root}{self.USUAL.replace('X1', 'X2')}",
        ]
        # One look serves all items.
        assert sum(path == self.USUAL for _, path, _ in api.asked) == 1

    def test_elsewhere_where_the_api_has_none(self, api):
        """Of an API that searches items in a bucket, which it does not serve itself."""
        own = "https://host/items/X1.json"
        api.pages = [[item(1, own)]]
        (found,) = search(api.url, QUESTION)
        assert found.location == own

    def test_below_the_root(self, api):
        own = f"{api.url}/elsewhere/items/X1"
        api.pages = [[item(1, own)]]
        (found,) = search(api.url, QUESTION)
        assert found.location == own
        assert [path for _, path, _ in api.asked] == ["/stac", "/stac/search"]
