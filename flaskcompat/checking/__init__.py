"""Whether models are sound: each is loaded, asked in every way that it answers, and its source is read.

``checker`` goes through the models; ``runs`` asks one of them, ``contract`` and ``sdk_types`` judge what it answered,
``mock`` and ``network`` keep real models and the network out of it, ``hearing`` finds out why something failed,
``spellings`` reads the source, ``scorecard`` shows the results.
"""
