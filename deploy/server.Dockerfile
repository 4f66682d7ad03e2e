# The model server alone, without Airflow: for SageMaker, KServe and any other place that runs containers.
# The package is no part of the image: it is mounted, and only bytes of the digest that the start names are served.
#
#   docker build -f deploy/server.Dockerfile -t model-server .
#
# Python and the locked libraries should be those that train: a newer scikit-learn may refuse an older model.
ARG PYTHON=3.12
FROM python:${PYTHON}-slim
# SageMaker may then say where to listen, which it does where several containers stand behind one endpoint.
LABEL com.amazonaws.sagemaker.capabilities.accept-bind-to-port=true
ENV PYTHONUNBUFFERED=1 PYTHONPATH=/opt/serving ML_LIFECYCLE_HOST=0.0.0.0
COPY requirements/server.txt /tmp/server.txt
RUN pip install --no-cache-dir --require-hashes -r /tmp/server.txt && rm /tmp/server.txt
COPY provider/ml_lifecycle/ /opt/serving/ml_lifecycle/
RUN python -m compileall -q /opt/serving && useradd --no-create-home --uid 10001 server
USER 10001
EXPOSE 8080
ENTRYPOINT ["python", "-m", "ml_lifecycle.serving.server"]
