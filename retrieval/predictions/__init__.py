"""Retrieved premises on disk: written by any retriever, read by the generator and by the evaluation."""

from retrieval.predictions.reader_writer import Predictions, PredictionWriter, RetrievalContext, hash_state

__all__ = ["PredictionWriter", "Predictions", "RetrievalContext", "hash_state"]
