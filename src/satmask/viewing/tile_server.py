"""Tiles for many who ask: the last ones kept. How many are drawn at a time is up to who serves them."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Hashable

from satmask.viewing.layers import Layer
from satmask.viewing.map_view import Tile
from satmask.viewing.shelf import Place
from satmask.viewing.styles import TileStyle
from satmask.viewing.tiles import PLAIN, render_tile


class TileCache:
    """Pictures of tiles, the least recently asked for thrown away first. Safe in threads.

    Args:
        most_bytes: What they may take.
    """

    def __init__(self, most_bytes: int) -> None:
        self.bytes, self._most = 0, most_bytes
        self._tiles: OrderedDict[Hashable, bytes] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Hashable) -> bytes | None:
        """The picture of a tile, if it is kept."""
        with self._lock:
            if key in self._tiles:
                self._tiles.move_to_end(key)
            return self._tiles.get(key)

    def put(self, key: Hashable, picture: bytes) -> None:
        """Keep a picture."""
        with self._lock:
            self.bytes += len(picture) - len(self._tiles.pop(key, b""))
            self._tiles[key] = picture
            while self.bytes > self._most:
                self.bytes -= len(self._tiles.popitem(last=False)[1])


class TileServer:
    """Draws tiles for whoever asks. Safe in threads.

    Args:
        cache_bytes: What pictures that are kept may take.
    """

    def __init__(self, *, cache_bytes: int = 64 * 2**20) -> None:
        self.cache = TileCache(cache_bytes)

    def tile(self, place: Place, layer: Layer, tile: Tile, style: TileStyle = PLAIN) -> bytes:
        """A map tile, see `satmask.viewing.tiles.render_tile`."""
        place.view.check(tile)
        key = layer.id, layer.stamp(), tile, style  # another one where its file was written anew or exchanged
        if (kept := self.cache.get(key)) is not None:
            return kept
        picture = render_tile(place, layer, tile, style=style)
        self.cache.put(key, picture)
        return picture
