"""The viewer without its page: what lies in a folder, map tiles of it, scores, lists of errors, and corrections.

Requests name ids, never paths: what isn't on the shelf can't be asked for. It computes nothing that the library can't.

```
shelf.open_shelf(root, *, scenes=(), truth=None, legend=None) -> Shelf
    Shelf   .places: tuple[Place, ...] .runs: tuple[Run, ...]
            .place(id) -> Place                     NotFoundError for every id that isn't there, always the same
            .layer(id) -> (Place, Layer)
    Place   .id .name .grid: Grid .legend: Legend | None .layers: tuple[Layer, ...] .view: MapView
            .layer(id) -> Layer   .first(kind) -> Layer | None   .problems: tuple[str, ...]
    Layer   .id .kind .title .bands .legend          kind: image classes probabilities uncertainty truth error polygons
    MapView .projection: "mercator" | "pixels" .bounds ((south, west), (north, east)) .min_zoom .native_zoom .max_zoom
            .to_map(points) .to_pixels(points)       Leaflet's (lng, lat) <-> (column, row), float64 (points, 2)
tiles.render_tile(place, layer, (z, x, y), *, style=TileStyle()) -> bytes        PNG, 256 × 256
    TileStyle(bands=None, percent=None, hidden=(), class_id=None, threshold=None, grey=False)
tile_server.TileServer(*, cache_bytes=64 MiB).tile(place, layer, (z, x, y), style) -> bytes
pointing.describe(place, lng, lat) -> dict           everything about a pixel and the polygons over it
pointing.features(place, layer, *, box=None, most=2000) -> dict      GeoJSON in map coordinates, with ids
judging.Judge(place)    .done .judged .scores() .counts() .curve(class_id) .at(class_id, threshold) .histogram(class_id)
                        .worst(*, classes=(), kinds=(), min_area_px=0, max_area_px=None, count=100) -> list[Finding]
                        .windows(*, by="missed" | "invented" | "uncertainty" | "wrong", count=100) -> list[Finding]
judging.overall(judges) -> dict                      scores a class with intervals over places
    Finding .kind .class_name .area_px .area_m2 .iou .certainty .box ((south, west), (north, east)) .point (lng, lat)
judging.Judge(place).to_label(labels, count=50)      windows of 256 pixels where labels would help most, list[Finding]
corrections.Corrections(place, *, legend=None, autosave=True)      .path .unsaved .features() -> GeoJSON
                        .accept(id, class_id=None) .delete(id) .reshape(id, geometry) .draw(geometry, class_id) -> id
                        .ignore(geometry) -> id .adopt(number of a predicted polygon) -> id .undo() -> bool .save() -> Path
shown.Shown(look)        .shelf .look_again() -> Shelf .layer(id) -> (Place, Layer)      a shelf that more may come to
uploads.Uploads(root, *, most_bytes).begin(name, size=None) -> Draft      .write(part) .publish() -> Path
running.Runner(shown, models=()).start(place, offer id) -> Job            .offers() .result(job) -> Place | None
job_queue.JobQueue()     .add(order, title) -> Job .cancel(id) .jobs      one at a time, each in a process of its own
```

Points, boxes and GeoJSON are in map coordinates: degrees for places on Earth; for others those of Leaflet's `CRS.Simple`,
where a tile of the native zoom shows each pixel once.
"""
