// What Leaflet doesn't bring: new tiles in place of old ones without a flash, a swipe, and a scale in pixels.
// Everything else about the map is said from Python.
(() => {
  const L = window.L;

  L.TileLayer.include({
    // Show tiles from another address; each old one stays until its successor is there.
    restyle(url) {
      this.setUrl(url, true);
      for (const key of Object.keys(this._tiles ?? {})) {
        const tile = this._tiles[key];
        tile.el.src = this.getTileUrl(tile.coords);
      }
    },

    // Show the layer right of a share of the map's width only.
    swipe(share) {
      this._share = share;
      if (!this._cut) {
        this._cut = () => {
          const box = this.getContainer();
          if (!box || !this._map) return;
          const size = this._map.getSize();
          const nw = this._map.containerPointToLayerPoint([size.x * this._share, 0]);
          const se = this._map.containerPointToLayerPoint(size);
          box.style.clip = `rect(${nw.y}px, ${se.x}px, ${se.y}px, ${nw.x}px)`;
        };
        this._map.on("move zoom resize viewreset", this._cut);
      }
      this._cut();
    },

    // Show all of it again.
    unswipe() {
      if (this._cut) this._map?.off("move zoom resize viewreset", this._cut);
      this._cut = undefined;
      const box = this.getContainer();
      if (box) box.style.clip = "";
    },
  });

  // Begin to draw; Leaflet.draw says on the map when it is done.
  L.Map.include({
    startDrawing(kind, options) {
      this._tool?.disable();
      this._tool = new L.Draw[kind](this, options);
      this._tool.enable();
    },
    // Without a pointer: corners are put where the map's middle is.
    addCorner() {
      if (this._tool?.enabled()) this._tool.addVertex(this.getCenter());
    },
    finishDrawing() {
      if (this._tool?.enabled()) this._tool.completeShape();
    },
  });

  // The scale of an image that lies nowhere on Earth.
  L.PixelScale = L.Control.Scale.extend({
    _updateMetric(most) {
      const across = this._map.getSize().x / 2;
      const y = this._map.getSize().y / 2;
      const from = this._map.containerPointToLatLng([across, y]).lng;
      const to = this._map.containerPointToLatLng([across + this.options.maxWidth, y]).lng;
      const pixels = (to - from) * this.options.pixels;
      const round = this._getRoundNum(pixels);
      this._updateScale(this._mScale, `${round} px`, round / pixels);
    },
  });
})();
