"""Annotation files, folders and other sources -> index -> plan -> batches. No JAX in here.

train, validation = open_sources(config, charset, preprocessing, geometry)
plan = Plan(train, batch_size=64, boundaries=(64, 96, 128), preprocessing=preprocessing,
            geometry='keras', seed=0)
for batch in batches(plan, train, preprocessing, start=step):
    ...
"""
