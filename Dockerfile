# docker build -t crnn_jax .
# docker run --rm -v "$PWD/pictures:/pictures" crnn_jax demo /pictures
# docker run --rm -v "$PWD/runs:/app/runs" crnn_jax train --config=configs/synthetic.py
FROM python:3.12-slim

WORKDIR /app

# Requirements first: a change of the code does not install them again.
COPY requirements.txt constraints.txt ./
RUN pip install --no-cache-dir -r requirements.txt

COPY . .
RUN pip install --no-cache-dir --no-deps .

ENTRYPOINT ["crnn-jax"]
CMD ["--help"]
