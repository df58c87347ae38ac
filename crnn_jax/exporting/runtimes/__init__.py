"""One small script a runtime: it reads with an exported file and imports nothing of ours.

`run.py` is started in a process of its own by `exporting.parity` and loads the script of one
runtime, which has one function:

    def open_model(job) -> reader   # job: the dictionary that `parity.answers` writes
    reader.arrays(images)           # uint8 [b h w c], of one width -> dictionary:
        'scores' float32 [b t k]    # logits or probabilities, classes in the model's order
        'ids' int32 [b n]           # -1 behind the text; where the file decodes
        'texts' list[str]           # where it writes texts
    reader.files(contents)          # list[bytes] -> list[str]; where the file takes pictures' files
    reader.version                  # of the runtime, for the report
"""
