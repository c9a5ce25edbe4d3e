"""Starts train.py in as many processes as job.yaml says; with GPUs, `torch.cuda.device_count()` may say it."""

import convoy
import convoy.torch

if __name__ == "__main__":
    convoy.torch.launch("train.py", processes=convoy.config["processes"])
