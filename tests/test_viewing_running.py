"""Running from the viewer: the files are those of `satmask predict`, one at a time, and what was stopped goes on."""

import itertools
import time

import numpy as np
import pytest
import rasterio

from satmask.engines import open_engine
from satmask.errors import SettingError
from satmask.prediction import predict_scene
from satmask.viewing.files import NotFoundError
from satmask.viewing.job_queue import JobQueue, Order
from satmask.viewing.offers import list_offers
from satmask.viewing.running import Runner
from satmask.viewing.shelf import open_shelf
from satmask.viewing.shown import Shown
from viewed import write_raster


def write_scene(path, size=300, seed=0):
    return write_raster(
        path, np.random.default_rng(seed).integers(0, 255, (size, size, 3), np.uint8), compress="deflate"
    )


@pytest.fixture
def folder(tmp_path, write_convolutions):
    """A folder of a scene that takes a moment, and a model."""
    write_scene(tmp_path / "shown" / "town.tif", 900)
    (tmp_path / "shown" / "runs").mkdir()
    write_convolutions(tmp_path / "shown" / "runs" / "small" / "model.onnx", layers=2, width=4)
    write_convolutions(tmp_path / "shown" / "runs" / "slow" / "model.onnx", layers=3, width=40)
    return tmp_path / "shown"


@pytest.fixture
def runner(folder):
    made = Runner(Shown(lambda: open_shelf(folder)))
    yield made
    made.close()


def until(condition, seconds=90):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, condition
        time.sleep(0.02)


def offer(runner, title):
    return next(one for one in runner.offers() if one.title == title).id


def job_of(runner, id_):
    return next(job for job in runner.queue.jobs if job.id == id_)


def contents(folder):
    """Pixels and tags of the rasters of a folder, by name; their bytes but for times that polygons carry."""
    found = {}
    for path in folder.glob("*.tif"):
        found[path.name] = path.read_bytes()
    return found


def test_a_result_is_that_of_predict_and_is_shown_at_once(runner, folder, tmp_path):
    (place,) = runner._shown.shelf.places
    job = runner.start(place, offer(runner, "runs/small"))
    until(lambda: job_of(runner, job.id).ended)
    job = job_of(runner, job.id)
    assert (job.state, job.error) == ("done", "")
    predict_scene(open_engine(folder / "runs/small/model.onnx"), folder / "town.tif", tmp_path / "other")
    assert contents(folder / "predicted" / "runs-small") == contents(tmp_path / "other")
    (shown,) = runner._shown.shelf.places
    assert shown.name == "predicted/runs-small/town"
    assert runner.result(job) is shown
    assert shown.first("image") is not None
    # Who still has the scene by itself on the screen goes on seeing it, and a link to it leads to the result.
    assert runner._shown.layer(place.first("image").id)[0] is place
    assert runner._shown.now(place.id) == shown.id


def test_what_is_told_to_be_done_has_its_result_however_long_the_folder_takes(folder):
    looks = itertools.count()

    def look():
        number = next(looks)
        if number > 0:
            time.sleep(1)
        if number == 1:
            message = "Folder must be there, got none."
            raise SettingError(message)
        return open_shelf(folder)

    runner = Runner(Shown(look))
    (place,) = runner._shown.shelf.places
    for _ in range(2):  # the first isn't found for once, which costs the next one nothing
        job = runner.start(place, offer(runner, "runs/small"))
        until(lambda number=job.id: job_of(runner, number).ended)
    assert runner.result(job_of(runner, job.id)) is not None
    runner.close()


def test_what_was_stopped_goes_on_to_the_same_bytes(runner, folder, tmp_path):
    (place,) = runner._shown.shelf.places
    first = runner.start(place, offer(runner, "runs/slow"))
    until(lambda: job_of(runner, first.id).done > 0)
    runner.queue.cancel(first.id)
    assert job_of(runner, first.id).state == "stopping"
    until(lambda: job_of(runner, first.id).ended)
    assert job_of(runner, first.id).state == "cancelled"
    out = folder / "predicted" / "runs-slow"
    assert sorted(path.name for path in out.iterdir()) == [".town.job"], "nothing half-written under a final name"
    again = runner.start(place, offer(runner, "runs/slow"))
    assert again.order == first.order
    until(lambda: job_of(runner, again.id).ended)
    assert job_of(runner, again.id).state == "done"
    assert any("are there already" in note for note in job_of(runner, again.id).notes)
    predict_scene(open_engine(folder / "runs/slow/model.onnx"), folder / "town.tif", tmp_path / "other")
    assert contents(out) == contents(tmp_path / "other")


def test_one_at_a_time_in_order_and_those_that_wait_can_be_stopped(runner):
    (place,) = runner._shown.shelf.places
    first = runner.start(place, offer(runner, "runs/slow"))
    second = runner.start(place, offer(runner, "runs/small"))
    third = runner.start(place, offer(runner, "runs/small"))
    assert third.order.out != second.order.out, "none is written over by another that waits"
    until(lambda: job_of(runner, first.id).done > 0)
    assert [job.state for job in runner.queue.jobs] == ["waiting", "waiting", "running"]
    runner.queue.cancel(third.id)
    assert job_of(runner, third.id).state == "cancelled"
    runner.queue.cancel(first.id)
    until(lambda: job_of(runner, second.id).ended)
    assert [job.state for job in runner.queue.jobs] == ["cancelled", "done", "cancelled"]


def test_a_prediction_that_is_there_is_never_written_over(runner, folder):
    (place,) = runner._shown.shelf.places
    there = folder / "predicted" / "runs-small" / "town.gpkg"
    there.parent.mkdir(parents=True)
    there.write_bytes(b"somebody's")
    job = runner.start(place, offer(runner, "runs/small"))
    assert job.order.out.name == "runs-small-2"
    runner.queue.cancel(job.id)
    until(lambda: job_of(runner, job.id).ended)
    assert there.read_bytes() == b"somebody's"


def test_closing_stops_what_runs_and_starts_nothing(folder):
    runner = Runner(Shown(lambda: open_shelf(folder)))
    (place,) = runner._shown.shelf.places
    first, second = runner.start(place, offer(runner, "runs/slow")), runner.start(place, offer(runner, "runs/small"))
    until(lambda: job_of(runner, first.id).done > 0)
    process = runner.queue._process
    runner.close()
    assert process.poll() is not None
    assert {job_of(runner, job.id).state for job in (first, second)} == {"cancelled"}
    with pytest.raises(SettingError):
        runner.start(place, offer(runner, "runs/small"))


def test_what_cannot_be_predicted_says_why_and_the_next_goes_on(tmp_path, write_model, write_convolutions):
    scene = write_scene(tmp_path / "town.tif", 40)
    eight = write_model(tmp_path / "eight.onnx", [f"band {n}" for n in range(8)], ["water"])
    good = write_convolutions(tmp_path / "good.onnx")
    (tmp_path / "bad.onnx").write_bytes(b"no model at all")
    queue = JobQueue()
    try:
        orders = [Order(tmp_path / "bad.onnx", scene, tmp_path / "a"), Order(eight, scene, tmp_path / "b")]
        orders += [Order(good, tmp_path / "gone.tif", tmp_path / "c"), Order(good, scene, tmp_path / "d")]
        jobs = [queue.add(order, "one") for order in orders]
        until(lambda: all(job.ended for job in queue.jobs))
        assert [job.state for job in reversed(queue.jobs)] == ["failed"] * 3 + ["done"]
        errors = [job.error for job in reversed(queue.jobs)]
        assert "8 (" in errors[1] or "8 bands" in errors[1]
        assert all(error and "\n" not in error and "Traceback" not in error for error in errors[:3])
        assert not list(tmp_path.glob("[abc]/*.tif"))
        assert jobs[0].id == 1
    finally:
        queue.close()


def test_models_are_those_of_the_folder_and_those_named(folder, tmp_path, write_convolutions):
    other = write_convolutions(tmp_path / "other" / "mine.onnx")
    (folder / "link.onnx").symlink_to(other)
    (folder / ".hidden.onnx").write_bytes(b"")
    assert [one.title for one in list_offers(open_shelf(folder))] == ["runs/slow", "runs/small", "buildings"]
    named = list_offers(open_shelf(folder), [other, folder / "runs" / "slow"])
    assert [one.title for one in named] == ["mine", "slow", "runs/small", "buildings"], "each once, and last what ships"
    assert named[0].find() == other
    with pytest.raises(SettingError, match="must be a file, a run folder"):
        list_offers(open_shelf(folder), [tmp_path / "nothing.onnx"])


def test_nothing_is_run_or_written_outside(runner, folder, tmp_path):
    (place,) = runner._shown.shelf.places
    with pytest.raises(NotFoundError):
        runner.start(place, "../../etc/passwd")
    chosen = offer(runner, "runs/small")
    (folder / "predicted").symlink_to(tmp_path)
    with pytest.raises(NotFoundError):
        runner.start(place, chosen)
    (folder / "predicted").unlink()
    scene = folder / "town.tif"
    scene.unlink()
    scene.symlink_to(write_scene(tmp_path / "secret.tif", 20))
    with pytest.raises(NotFoundError):
        runner.start(place, chosen)


def test_places_whose_files_stay_keep_what_was_counted(folder):
    shown = Shown(lambda: open_shelf(folder))
    (before,) = shown.shelf.places
    write_scene(folder / "village.tif", 30)
    town, village = shown.look_again().places
    assert town is before
    assert village.name == "village"
    assert shown.place_of(folder / "village.tif") is village
    with rasterio.open(folder / "village.tif") as file:
        assert file.count == 3
