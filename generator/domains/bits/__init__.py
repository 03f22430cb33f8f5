"""Bit tasks: problems without a text to learn from, which show whether a transformer's body computes for strangers.

`bit_xor` and `bit_memory` are domains like any other; `BitModel` puts new input and output layers on a body, pretrained
or random, frozen or not, and `BitDataModule` draws new bits for every step.

    python -m generator.main fit --config configs/generator/bit_xor_cpu.yaml

Source: Lu et al. 2021, "Pretrained Transformers as Universal Computation Engines" (arXiv:2103.05247).
"""
