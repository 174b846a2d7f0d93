"""Training: data and a recipe in, a run folder out."""

from satmask.training.describing import public_options
from satmask.training.job import Job
from satmask.training.running import train
from satmask.training.souping import Averaged, average_runs
from satmask.training.stepping import quick_momentum, set_momentum

__all__ = ["Averaged", "Job", "average_runs", "public_options", "quick_momentum", "set_momentum", "train"]
