"""What runs in every call: instruction sets, kernels, their driver, ufuncs and dense layers."""
