"""What several data scripts need, a concern a file. Only Python's standard library.

errors.py      Failure, Usage, bad_rows: errors become one line on standard error and an exit code
arguments.py   the flags that several scripts have, and their checks
files.py       opening what is a file, and what is the file itself; members of archives; JSON
download.py    URL -> file, with a cache, checksums, a progress bar; continues after an interruption
file_kinds.py  what a file is that is not UTF-8 text; reading one that is
text_files.py  finding and opening text, also compressed and in archives; lines and documents
rows.py        labelled rows and JSON objects, as data/tokenize rows reads them
splits.py      which documents and rows are for validation
tokenizer.py   which tokenizer a folder holds; running data/tokenize
data_dir.py    the data directory that a run makes: the folder to work in, putting files in place
text.py        documents -> train.bin, val.bin, a tokenizer                    (to pretrain on)
classify.py    labelled rows -> train.bin, val.bin, test.bin                   (for finetune_cls)
instruct.py    rows of instructions -> train.bin, val.bin, test_NAME.bin       (for sft)
model_source.py  where a pretrained model comes from: server, folder, archive, package
safetensors.py   headers, checked; writing; names without a wrapper's prefix
gguf.py          GGUF files: metadata, tensors, dequantisation
gguf_model.py    a GGUF file -> a Hugging Face directory
sentencepiece_model.py  tokenizer.model -> tokenizer.json
"""
