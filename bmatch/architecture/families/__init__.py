"""The families of models: one file each, how it names its tensors and what their axes are."""
