"""Decoding in steps over buffers that never change their shapes, so that a GPU can replay them as CUDA graphs.

`search` takes what `generator.decoding.ragged.decode` has read; a `Search` of the inputs' shape (`t5_search`,
`causal_search`), kept on the model (`store`), runs chunks of steps (`programs`): a network over buffers (`t5`,
`causal`) and the bookkeeping of beams or samples (`beams`, `samples`).
"""
