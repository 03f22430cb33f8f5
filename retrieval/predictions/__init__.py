"""Retrieved premises on disk: written by any retriever, read by the generator and by the evaluation."""

from retrieval.predictions.files import RetrievalContext
from retrieval.predictions.reader_writer import Predictions, PredictionWriter

__all__ = ["PredictionWriter", "Predictions", "RetrievalContext"]
