"""A drawn world in which everything is known exactly, so that models can be trained and the whole can be measured.

It measures the drawn world and nothing else: whoever has pictures of his own finds measures of any pictures in
`pipelines.pixels` (paste_backs, seams, overlap, proof). No product module imports it; `packshot train`,
`packshot evaluate` and `packshot demo` do when they are called.
"""
