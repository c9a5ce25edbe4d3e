"""What a task takes is counted by phase; the machine's counters of energy start again at 0, and some cannot be read."""

import asyncio
import types

import pytest

from convoy.control.costs import Cost
from convoy.site.meters import NO_METERS, Energy, Gpus, Meters, Stopwatch


def package(folder, name, microjoules, most=1000_000_000):
    part = folder / name
    part.mkdir(parents=True, exist_ok=True)
    (part / "energy_uj").write_text(f"{microjoules}\n")
    (part / "max_energy_range_uj").write_text(f"{most}\n")
    return part / "energy_uj"


def test_energy_is_that_of_the_packages_and_a_counter_that_starts_again_loses_nothing(tmp_path):
    first, second = package(tmp_path, "intel-rapl:0", 990_000_000), package(tmp_path, "intel-rapl:1", 5)
    package(tmp_path, "intel-rapl:0:0", 77)  # the cores of the first package: they are counted with it
    meter = Energy.find(tmp_path)
    assert meter.read().energy_j == 0
    first.write_text("2000000")  # 12 J later
    second.write_text("3000005")
    assert meter.read().energy_j == pytest.approx(15)
    second.unlink()  # or a file that may not be read any more
    assert meter.read().energy_j == pytest.approx(15)


async def test_a_counter_that_starts_again_twice_during_a_task_loses_nothing(tmp_path):
    counter, loop, read = (
        package(tmp_path, "intel-rapl:0", 0, most=1_000_000),
        asyncio.get_running_loop(),
        asyncio.Event(),
    )

    class Seen(Energy):
        def read(self):
            found = super().read()
            loop.call_soon_threadsafe(read.set)
            return found

    meters = Meters((Seen.find(tmp_path),), beat_s=0)

    async def task():
        watch = Stopwatch(meters)
        for microjoules in (900_000, 100_000, 950_000, 60_000):
            counter.write_text(str(microjoules))
            for _ in range(2):  # the first one may have begun before
                read.clear()
                await read.wait()
        return watch.cost(Cost())

    assert (await meters.during(task())).energy_j == pytest.approx(2.1)  # 2.06 J with two digits


async def test_meters_are_read_no_more_after_a_task_that_failed(tmp_path):
    package(tmp_path, "intel-rapl:0", 0)

    async def failing():
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        await Meters((Energy.find(tmp_path),)).during(failing())
    assert len(asyncio.all_tasks()) == 1


def test_a_machine_without_counters_has_no_meter(tmp_path):
    (tmp_path / "intel-rapl:0").mkdir()
    (tmp_path / "intel-rapl:0" / "energy_uj").write_text("not a number")
    assert not Energy.find(tmp_path).counters
    assert Meters((Energy.find(tmp_path / "none"),)).read().energy_j == 0


class NVMLError(Exception):
    pass


def nvml(uses, energy, memory):
    """Return a module as `pynvml` is, of one GPU; it has not been tried on one."""

    def samples(_device, _kind, begun):
        return "uint", [
            types.SimpleNamespace(sampleValue=types.SimpleNamespace(uiVal=use)) for at, use in uses if at * 1e6 >= begun
        ]

    return types.SimpleNamespace(
        NVMLError=NVMLError,
        NVML_GPU_UTILIZATION_SAMPLES=1,
        NVML_VALUE_TYPE_UNSIGNED_INT="uint",
        NVML_VALUE_TYPE_UNSIGNED_LONG_LONG="ulong",
        nvmlDeviceGetSamples=samples,
        nvmlDeviceGetMemoryInfo=lambda _: types.SimpleNamespace(used=memory),
        nvmlDeviceGetTotalEnergyConsumption=lambda _: energy.pop(0),
    )


def test_the_use_of_a_gpu_is_the_average_of_its_samples_times_the_seconds(monkeypatch):
    now = iter([110.0, 120.0])
    monkeypatch.setattr("convoy.site.meters.time", types.SimpleNamespace(time=lambda: next(now)))
    gpus = Gpus(nvml([(105, 50), (115, 100), (118, 50)], [1000, 4000], 1 << 30), ["gpu"], _at=100.0)
    first = gpus.read()
    assert (first.energy_j, first.gpu_memory) == (0, 1 << 30)
    then = gpus.read()
    assert then.energy_j == 3.0
    assert then.gpu_s - first.gpu_s == pytest.approx(7.5)  # the samples since: 75 % of ten seconds


def test_a_stopwatch_counts_each_phase_also_of_one_that_fails_and_believes_a_trainer_no_times_of_its_own():
    watch = Stopwatch(NO_METERS)
    with watch.phase("pull_s"):
        pass
    with pytest.raises(ValueError, match="no"), watch.phase("train_s"):
        raise ValueError("no")
    cost = watch.cost(Cost(pull_s=9e9, took_s=5, down=7, up=7, answers=3, energy_j=1, cpu_s=1.23456, memory=123_456))
    assert (cost.cpu_s, cost.memory) == (1.2, 120_000)
    assert (cost.down, cost.up, cost.answers, cost.took_s, cost.energy_j) == (0, 0, 0, 0, 0)
    assert 0 < cost.pull_s < 10
    assert 0 < cost.train_s < 10
