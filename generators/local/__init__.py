"""Generators whose model is a folder on this machine: diffusers pipelines, transformers models."""
