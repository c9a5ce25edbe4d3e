"""A training script with NVIDIA FLARE's client verbs."""

from network import fit, load, loss

import convoy as flare


def main():
    flare.init()
    x, y = load(flare.get_site_name())

    while flare.is_running():
        received = flare.receive()
        print(f"round {received.current_round + 1} of {received.total_rounds}")
        before = loss(received.params, x, y)

        params = fit(received.params, x, y, lr=0.1, epochs=5)

        flare.send(
            flare.FLModel(
                params=params,
                metrics={"loss": before},
                meta={"NUM_STEPS_CURRENT_ROUND": len(x)},
            )
        )


if __name__ == "__main__":
    main()
