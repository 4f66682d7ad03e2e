"""A small Amazon on 127.0.0.1: SageMaker with endpoints that take their time, CloudWatch, autoscaling, invocations."""

from __future__ import annotations

import json
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Protocol

ACCOUNT = "123456789012"
ARN = f"arn:aws:sagemaker:eu-west-1:{ACCOUNT}"
_NAME = re.compile(r"[a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}")
_TAG = re.compile(r"[\w\s.:/=+\-@]{0,256}")
_TARGET = re.compile(r"endpoint/([^/]+)/variant/([^/]+)")


class RefusedError(Exception):
    """An answer that is an error."""

    def __init__(self, message: str, code: str = "ValidationException", status: int = 400) -> None:
        super().__init__(message)
        self.code, self.status = code, status


class Container(Protocol):
    """What answers for a variant."""

    def answer(self, body: bytes, content_type: str) -> tuple[int, bytes]:
        """Status and body."""

    def stop(self) -> None:
        """End it."""


@dataclass
class Plain:
    """A container that tells who it is."""

    told: Mapping[str, str]

    def answer(self, body: bytes, content_type: str) -> tuple[int, bytes]:
        return 200, json.dumps({"version": self.told["ML_LIFECYCLE_VERSION"]}).encode()

    def stop(self) -> None:
        pass


def plain_container(model: Mapping[str, Any]) -> Container:
    """Of any model, without looking at its archive."""
    return Plain(model["PrimaryContainer"]["Environment"])


@dataclass
class Variant:
    """One production variant of an endpoint."""

    asked: dict[str, Any]
    weight: float
    count: int
    container: Container
    served: float = 0.0

    def shown(self, weights: Mapping[str, float]) -> dict[str, Any]:
        name = self.asked["VariantName"]
        return {
            "VariantName": name,
            "CurrentWeight": self.weight,
            "DesiredWeight": weights.get(name, self.weight),
            "CurrentInstanceCount": self.count,
            "DesiredInstanceCount": self.count,
        }


@dataclass
class Pending:
    """What is under way, and for how many looks more."""

    kind: str
    left: int
    config: str = ""
    retain: bool = False
    weights: dict[str, float] = field(default_factory=dict)


@dataclass
class Endpoint:
    name: str
    config: str
    status: str
    modified: float
    variants: dict[str, Variant] = field(default_factory=dict)
    pending: Pending | None = None
    reason: str = ""


@dataclass(frozen=True)
class Request:
    """One invocation, for CloudWatch."""

    endpoint: str
    variant: str
    at: float
    ms: float
    status: int


@dataclass
class Amazon:
    """What the account holds, and how the services behave."""

    launch: Callable[[Mapping[str, Any]], Container] = plain_container
    looks: int = 2
    """That an update takes."""
    stuck: bool = False
    """No update ends."""
    taken_back: str = ""
    """The reason why the next update of a configuration or of weights is silently taken back."""
    broken_rollback: bool = False
    """The next update leaves a mixture."""
    throttled: int = 0
    """Calls that are turned away from here on."""
    before: Callable[[str, dict[str, Any]], None] = lambda _operation, _asked: None
    """Called before each operation."""
    endpoints: dict[str, Endpoint] = field(default_factory=dict)
    configs: dict[str, dict[str, Any]] = field(default_factory=dict)
    models: dict[str, dict[str, Any]] = field(default_factory=dict)
    tags: dict[str, dict[str, str]] = field(default_factory=dict)
    groups: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    jobs: dict[str, dict[str, Any]] = field(default_factory=dict)
    scaled: dict[str, dict[str, Any]] = field(default_factory=dict)
    policies: dict[str, dict[str, Any]] = field(default_factory=dict)
    requests: list[Request] = field(default_factory=list)
    done: Counter[str] = field(default_factory=Counter)
    """How often each operation succeeded."""
    lock: Any = field(default_factory=threading.RLock)

    def call(self, operation: str, asked: dict[str, Any]) -> dict[str, Any]:
        """One operation."""
        self.before(operation, asked)
        with self.lock:
            if self.throttled > 0:
                self.throttled -= 1
                raise RefusedError("Rate exceeded", "ThrottlingException")
            method = getattr(self, re.sub("(?<!^)(?=[A-Z])", "_", operation).lower(), None)
            if method is None:
                raise RefusedError(f"the fake does not know {operation}", "UnknownOperationException")
            answer: dict[str, Any] = method(asked) or {}
            self.done[operation] += 1
            return answer

    def inventory(self) -> dict[str, list[str]]:
        """Names of all that costs or clutters."""
        held: dict[str, Mapping[str, Any]] = {
            "endpoints": self.endpoints,
            "configs": self.configs,
            "models": self.models,
            "tags": self.tags,
            "scaled": self.scaled,
            "policies": self.policies,
        }
        return {kind: sorted(found) for kind, found in held.items() if found}

    # --- Models and configurations ---------------------------------------------------------------------------------

    def create_model(self, asked: dict[str, Any]) -> dict[str, Any]:
        return self._create("model", self.models, asked.pop("ModelName"), asked)

    def describe_model(self, asked: dict[str, Any]) -> dict[str, Any]:
        return {"ModelName": asked["ModelName"], **self._held("model", self.models, asked["ModelName"])}

    def list_models(self, asked: dict[str, Any]) -> dict[str, Any]:
        return self._listed("Model", self.models, asked)

    def delete_model(self, asked: dict[str, Any]) -> None:
        name = asked["ModelName"]
        self._held("model", self.models, name)
        for config, held in self.configs.items():
            if any(one["ModelName"] == name for one in held["ProductionVariants"]):
                raise RefusedError(f"the fake refuses to delete {name}, which {config} names")
        self._forget("model", self.models, name)

    def create_endpoint_config(self, asked: dict[str, Any]) -> dict[str, Any]:
        variants = asked["ProductionVariants"]
        for one in variants:
            self._held("model", self.models, one["ModelName"])
            if not _NAME.fullmatch(one["VariantName"]) or one["InitialVariantWeight"] < 0:
                raise RefusedError(f"Value {one} failed to satisfy constraint")
        if len({one["VariantName"] for one in variants}) < len(variants):
            raise RefusedError("Duplicate variant names")
        return self._create("endpoint-config", self.configs, asked.pop("EndpointConfigName"), asked)

    def describe_endpoint_config(self, asked: dict[str, Any]) -> dict[str, Any]:
        name = asked["EndpointConfigName"]
        return {"EndpointConfigName": name, **self._held("endpoint configuration", self.configs, name)}

    def list_endpoint_configs(self, asked: dict[str, Any]) -> dict[str, Any]:
        return self._listed("EndpointConfig", self.configs, asked)

    def delete_endpoint_config(self, asked: dict[str, Any]) -> None:
        name = asked["EndpointConfigName"]
        self._held("endpoint configuration", self.configs, name)
        for one in self.endpoints.values():
            if name in (one.config, one.pending.config if one.pending else ""):
                raise RefusedError(f"the fake refuses to delete {name}, which {one.name} uses")
        self._forget("endpoint-config", self.configs, name)

    # --- Endpoints -------------------------------------------------------------------------------------------------

    def create_endpoint(self, asked: dict[str, Any]) -> dict[str, Any]:
        name, config = asked["EndpointName"], asked["EndpointConfigName"]
        self._held("endpoint configuration", self.configs, config)
        if not _NAME.fullmatch(name):
            raise RefusedError(f"Value '{name}' at 'endpointName' failed to satisfy constraint")
        if name.lower() in {one.lower() for one in self.endpoints}:
            raise RefusedError(f'Cannot create already existing endpoint "{ARN}:endpoint/{name}".')
        found = Endpoint(name, config, "Creating", time.time(), pending=Pending("create", self.looks, config))
        self.endpoints[name] = found
        self._tag(f"{ARN}:endpoint/{name}", asked.get("Tags", ()))
        return {"EndpointArn": f"{ARN}:endpoint/{name}"}

    def describe_endpoint(self, asked: dict[str, Any]) -> dict[str, Any]:
        found = self._endpoint(asked["EndpointName"])
        pending = found.pending
        if pending is not None and not self.stuck:
            pending.left -= 1
            if pending.left < 0:
                self._end(found, pending)
                found = self._endpoint(asked["EndpointName"])
                pending = found.pending
        shown: dict[str, Any] = {
            "EndpointName": found.name,
            "EndpointArn": f"{ARN}:endpoint/{found.name}",
            "EndpointConfigName": found.config,
            "EndpointStatus": found.status,
            "CreationTime": found.modified,
            "LastModifiedTime": found.modified,
            "ProductionVariants": [one.shown(pending.weights if pending else {}) for one in found.variants.values()],
        }
        if found.reason:
            shown["FailureReason"] = found.reason
        if pending is not None and pending.config:
            shown["PendingDeploymentSummary"] = {"EndpointConfigName": pending.config, "StartTime": found.modified}
        return shown

    def update_endpoint(self, asked: dict[str, Any]) -> dict[str, Any]:
        found, config = self._at_rest(asked["EndpointName"]), asked["EndpointConfigName"]
        self._held("endpoint configuration", self.configs, config)
        if found.status == "Failed":
            raise RefusedError(f'Cannot update failed endpoint "{found.name}"')
        retain = bool(asked.get("RetainAllVariantProperties"))
        names = {one["VariantName"] for one in self.configs[config]["ProductionVariants"]}
        if asked.get("DeploymentConfig") and names != set(found.variants):
            raise RefusedError("Deployment guardrails need the same variant names")
        self._begin(found, Pending("config", self.looks, config, retain=retain))
        return {"EndpointArn": f"{ARN}:endpoint/{found.name}"}

    def update_endpoint_weights_and_capacities(self, asked: dict[str, Any]) -> dict[str, Any]:
        found = self._at_rest(asked["EndpointName"])
        if found.status == "Failed":
            raise RefusedError(f'Cannot update failed endpoint "{found.name}"')
        weights = {one["VariantName"]: float(one["DesiredWeight"]) for one in asked["DesiredWeightsAndCapacities"]}
        if not set(weights) <= set(found.variants):
            raise RefusedError(f"Variants {sorted(set(weights) - set(found.variants))} do not exist")
        self._begin(found, Pending("weights", self.looks, weights=weights))
        return {"EndpointArn": f"{ARN}:endpoint/{found.name}"}

    def delete_endpoint(self, asked: dict[str, Any]) -> None:
        found = self._at_rest(asked["EndpointName"])
        found.status, found.pending = "Deleting", Pending("delete", self.looks)

    def _begin(self, found: Endpoint, pending: Pending) -> None:
        found.status, found.pending, found.reason, found.modified = "Updating", pending, "", time.time()

    def _end(self, found: Endpoint, pending: Pending) -> None:
        if pending.kind == "delete":
            for one in found.variants.values():
                one.container.stop()
            del self.endpoints[found.name]
            self.tags.pop(f"{ARN}:endpoint/{found.name}", None)
            raise RefusedError(f'Could not find endpoint "{found.name}".')
        why, self.taken_back = self.taken_back, ""
        if why and pending.kind == "weights" and found.status == "Updating":
            found.status, found.reason, found.pending = "RollingBack", why, Pending("back", self.looks)
            return
        found.pending = None
        if why and pending.kind != "back":
            found.status, found.reason = ("Failed" if pending.kind == "create" else "InService"), why
            return
        if pending.kind == "weights":
            for name, weight in pending.weights.items():
                found.variants[name].weight = weight
        elif pending.kind in ("create", "config"):
            self._replace(found, pending)
            return
        found.status = "InService"

    def _replace(self, found: Endpoint, pending: Pending) -> None:
        """Start what is new, and end what is not named any more, unless something does not start."""
        started: dict[str, Variant] = {}
        for asked in self.configs[pending.config]["ProductionVariants"]:
            held = found.variants.get(asked["VariantName"])
            weight, count = asked["InitialVariantWeight"], asked["InitialInstanceCount"]
            if held is not None and pending.retain:
                weight, count = held.weight, held.count
            if held is not None and held.asked["ModelName"] == asked["ModelName"]:
                started[asked["VariantName"]] = Variant(asked, weight, count, held.container)
                continue
            try:
                container = self.launch(self.models[asked["ModelName"]])
            except Exception as error:  # noqa: BLE001  # whatever keeps a container from starting
                found.status = "Failed" if pending.kind == "create" else "InService"
                found.reason = f"The primary container did not pass the ping health check: {error}"
                return
            started[asked["VariantName"]] = Variant(asked, weight, count, container)
        if self.broken_rollback and pending.kind == "config":
            self.broken_rollback = False
            found.status, found.reason = "UpdateRollbackFailed", "no capacity"
            return
        for name, one in found.variants.items():
            if name not in started or started[name].container is not one.container:
                one.container.stop()
        found.variants, found.config, found.status = started, pending.config, "InService"

    def _endpoint(self, name: str) -> Endpoint:
        if name not in self.endpoints:
            raise RefusedError(f'Could not find endpoint "{ARN}:endpoint/{name}".')
        return self.endpoints[name]

    def _at_rest(self, name: str) -> Endpoint:
        found = self._endpoint(name)
        if found.pending is not None:
            raise RefusedError(f'Cannot update in-progress endpoint "{ARN}:endpoint/{name}".')
        return found

    # --- Tags ------------------------------------------------------------------------------------------------------

    def add_tags(self, asked: dict[str, Any]) -> dict[str, Any]:
        if asked["ResourceArn"] not in self.tags:
            raise RefusedError(f"Could not find {asked['ResourceArn']}")
        self._tag(asked["ResourceArn"], asked["Tags"])
        return {"Tags": asked["Tags"]}

    def list_tags(self, asked: dict[str, Any]) -> dict[str, Any]:
        held = self.tags.get(asked["ResourceArn"], {})
        return {"Tags": [{"Key": key, "Value": value} for key, value in sorted(held.items())]}

    def _tag(self, arn: str, tags: Any) -> None:
        for one in tags:
            if not _TAG.fullmatch(one["Value"]) or not _TAG.fullmatch(one["Key"]):
                raise RefusedError(f"tag {one} failed to satisfy constraint")
        held = self.tags.setdefault(arn, {})
        held.update({one["Key"]: one["Value"] for one in tags})
        if len(held) > 50:
            raise RefusedError("too many tags")

    # --- Registry --------------------------------------------------------------------------------------------------

    def create_model_package_group(self, asked: dict[str, Any]) -> dict[str, Any]:
        name = asked["ModelPackageGroupName"]
        if name in self.groups:
            raise RefusedError(f"Model Package Group already exists: {name}")
        self.groups[name] = []
        return {"ModelPackageGroupArn": f"{ARN}:model-package-group/{name}"}

    def describe_model_package_group(self, asked: dict[str, Any]) -> dict[str, Any]:
        name = asked["ModelPackageGroupName"]
        if name not in self.groups:
            raise RefusedError(f"ModelPackageGroup {ARN}:model-package-group/{name} does not exist.")
        return {"ModelPackageGroupName": name, "ModelPackageGroupArn": f"{ARN}:model-package-group/{name}"}

    def create_model_package(self, asked: dict[str, Any]) -> dict[str, Any]:
        packages = self.groups[asked["ModelPackageGroupName"]]
        again = [one for one in packages if one["ClientToken"] == asked["ClientToken"]]
        if again:
            return {"ModelPackageArn": again[0]["ModelPackageArn"]}
        arn = f"{ARN}:model-package/{asked['ModelPackageGroupName']}/{len(packages) + 1}"
        packages.append({**asked, "ModelPackageArn": arn, "ModelPackageStatus": "Completed", "CreationTime": 1.0})
        return {"ModelPackageArn": arn}

    def list_model_packages(self, asked: dict[str, Any]) -> dict[str, Any]:
        names = (
            "ModelPackageArn",
            "ModelPackageDescription",
            "ModelApprovalStatus",
            "ModelPackageStatus",
            "CreationTime",
        )
        packages = self.groups[asked["ModelPackageGroupName"]]
        return {"ModelPackageSummaryList": [{name: one[name] for name in names} for one in packages]}

    def update_model_package(self, asked: dict[str, Any]) -> dict[str, Any]:
        for one in (package for packages in self.groups.values() for package in packages):
            if one["ModelPackageArn"] == asked["ModelPackageArn"]:
                one.update(asked)
        return {"ModelPackageArn": asked["ModelPackageArn"]}

    # --- Batch transform -------------------------------------------------------------------------------------------

    def create_transform_job(self, asked: dict[str, Any]) -> dict[str, Any]:
        name = asked["TransformJobName"]
        if name in self.jobs:
            raise RefusedError(f"Job name must be unique; {name} already exists", "ResourceInUse")
        self._held("model", self.models, asked["ModelName"])
        self.jobs[name] = {**asked, "TransformJobStatus": "InProgress", "left": self.looks, "ending": "Completed"}
        return {"TransformJobArn": f"{ARN}:transform-job/{name}"}

    def describe_transform_job(self, asked: dict[str, Any]) -> dict[str, Any]:
        name = asked["TransformJobName"]
        if name not in self.jobs:
            raise RefusedError(f"Could not find requested job with name: {name}")
        job = self.jobs[name]
        job["left"] -= 1
        if job["left"] < 0 and job["TransformJobStatus"] in ("InProgress", "Stopping") and not self.stuck:
            job["TransformJobStatus"] = "Stopped" if job["TransformJobStatus"] == "Stopping" else job["ending"]
        shown = {key: value for key, value in job.items() if key not in ("left", "ending", "Tags")}
        return {**shown, "TransformJobArn": f"{ARN}:transform-job/{name}", "CreationTime": 1.0}

    def stop_transform_job(self, asked: dict[str, Any]) -> None:
        job = self.jobs[asked["TransformJobName"]]
        if job["TransformJobStatus"] != "InProgress":
            raise RefusedError(f"The request was rejected because the job is {job['TransformJobStatus']}")
        job.update({"TransformJobStatus": "Stopping", "left": self.looks})

    # --- Autoscaling -----------------------------------------------------------------------------------------------

    def register_scalable_target(self, asked: dict[str, Any]) -> dict[str, Any]:
        found = _TARGET.fullmatch(asked["ResourceId"])
        if found is None or found[2] not in self._endpoint(found[1]).variants:
            raise RefusedError(f"Resource {asked['ResourceId']} does not exist")
        self.scaled[asked["ResourceId"]] = asked
        return {"ScalableTargetARN": "arn"}

    def describe_scalable_targets(self, asked: dict[str, Any]) -> dict[str, Any]:
        held = [self.scaled[one] for one in asked["ResourceIds"] if one in self.scaled]
        return {"ScalableTargets": [{**one, "RoleARN": "arn", "CreationTime": 1.0} for one in held]}

    def put_scaling_policy(self, asked: dict[str, Any]) -> dict[str, Any]:
        if asked["ResourceId"] not in self.scaled:
            raise RefusedError("No scalable target registered", "ObjectNotFoundException")
        self.policies[asked["PolicyName"]] = asked
        return {"PolicyARN": "arn"}

    def describe_scaling_policies(self, asked: dict[str, Any]) -> dict[str, Any]:
        if "ScalableDimension" in asked and "ResourceId" not in asked:
            raise RefusedError("Resource ID must be specified with a scalable dimension")
        held = [self.policies[one] for one in asked["PolicyNames"] if one in self.policies]
        return {"ScalingPolicies": [{**one, "PolicyARN": "arn", "CreationTime": 1.0} for one in held]}

    def deregister_scalable_target(self, asked: dict[str, Any]) -> None:
        if asked["ResourceId"] not in self.scaled:
            raise RefusedError("No scalable target found", "ObjectNotFoundException")
        del self.scaled[asked["ResourceId"]]
        gone = [name for name, one in self.policies.items() if one["ResourceId"] == asked["ResourceId"]]
        for name in gone:
            del self.policies[name]

    # --- Requests and what is counted of them ----------------------------------------------------------------------

    def invoke(self, name: str, body: bytes, content_type: str) -> tuple[int, bytes, str]:
        """Status, answer and the variant that gave it: smooth weighted round robin."""
        with self.lock:
            found = self._endpoint(name)
            if not found.variants or found.status in ("Creating", "Deleting", "Failed"):
                raise RefusedError(f"Endpoint {name} of account {ACCOUNT} not found.", "ValidationError")
            total = sum(one.weight for one in found.variants.values())
            for one in found.variants.values():
                one.served += one.weight
            chosen, variant = max(found.variants.items(), key=lambda pair: pair[1].served)
            variant.served -= total
        begun = time.perf_counter()
        status, answer = variant.container.answer(body, content_type)
        with self.lock:
            self.requests.append(Request(name, chosen, time.time(), (time.perf_counter() - begun) * 1000, status))
        return status, answer, chosen

    def get_metric_data(self, asked: dict[str, Any]) -> dict[str, Any]:
        results = []
        for query in asked["MetricDataQueries"]:
            metric, stat = query["MetricStat"]["Metric"], query["MetricStat"]["Stat"]
            where = {one["Name"]: one["Value"] for one in metric["Dimensions"]}
            held = [
                one
                for one in self.requests
                if (one.endpoint, one.variant) == (where["EndpointName"], where["VariantName"])
                and asked["StartTime"] <= one.at < asked["EndTime"]
            ]
            minutes: dict[float, list[float]] = {}
            for one in held:
                value = _measured(one, metric["MetricName"])
                minutes.setdefault(one.at // 60 * 60, []).append(value)
            values = [_statistic(found, stat) for _, found in sorted(minutes.items())]
            results.append(
                {
                    "Id": query["Id"],
                    "Label": metric["MetricName"],
                    "StatusCode": "Complete",
                    "Values": values,
                    "Timestamps": sorted(minutes),
                }
            )
        return {"MetricDataResults": results, "Messages": []}

    # --- Named things ----------------------------------------------------------------------------------------------

    def _create(self, kind: str, held: dict[str, dict[str, Any]], name: str, asked: dict[str, Any]) -> dict[str, Any]:
        if not _NAME.fullmatch(name):
            raise RefusedError(f"Value '{name}' failed to satisfy constraint")
        if name in held:
            raise RefusedError(f'Cannot create already existing {kind} "{ARN}:{kind}/{name}".')
        arn = f"{ARN}:{kind}/{name}"
        key = {"model": "ModelArn", "endpoint-config": "EndpointConfigArn"}[kind]
        if asked.get("Tags"):
            self._tag(arn, asked["Tags"])
        held[name] = {**asked, key: arn, "CreationTime": time.time()}
        return {key: arn}

    def _held(self, kind: str, held: dict[str, dict[str, Any]], name: str) -> dict[str, Any]:
        if name not in held:
            raise RefusedError(f'Could not find {kind} "{name}".')
        return {key: value for key, value in held[name].items() if key != "Tags"}

    def _forget(self, kind: str, held: dict[str, dict[str, Any]], name: str) -> None:
        del held[name]
        self.tags.pop(f"{ARN}:{kind}/{name}", None)

    def _listed(self, kind: str, held: dict[str, dict[str, Any]], asked: dict[str, Any]) -> dict[str, Any]:
        names = sorted(name for name in held if asked.get("NameContains", "") in name)
        # One a page: whoever reads only the first page is found out.
        start = int(asked.get("NextToken", "0"))
        page = [
            {f"{kind}Name": name, f"{kind}Arn": f"{ARN}:{kind}/{name}", "CreationTime": held[name]["CreationTime"]}
            for name in names[start : start + 1]
        ]
        more = {"NextToken": str(start + 1)} if start + 1 < len(names) else {}
        return {f"{kind}s": page, **more}


def _measured(request: Request, metric: str) -> float:
    if metric == "ModelLatency":
        return request.ms * 1000
    return float(metric == "Invocations" or (metric == "Invocation5XXErrors" and request.status >= 500))


def _statistic(values: list[float], stat: str) -> float:
    if stat == "Sum":
        return sum(values)
    if stat == "SampleCount":
        return float(len(values))
    bound = re.fullmatch(r"TC\(:([0-9.e+]+)\)", stat)
    if bound is None:
        raise RefusedError(f"the fake does not know the statistic {stat}")
    return float(sum(value <= float(bound[1]) for value in values))


# --- HTTP ------------------------------------------------------------------------------------------------------------


def _handler(held: list[Amazon]) -> type[BaseHTTPRequestHandler]:  # noqa: C901  # one class
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        # Head and body in one packet: else each answer waits for the acknowledgement of its head.
        wbufsize = -1
        disable_nagle_algorithm = True

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            invoked = re.fullmatch("/endpoints/([^/]+)/invocations", self.path)
            if invoked:
                self._invocation(invoked[1], body)
                return
            name = self.headers["X-Amz-Target"].rpartition(".")[2]
            try:
                self._send(200, _as_json(held[0].call(name, json.loads(body))))
            except RefusedError as error:
                self._send(error.status, _as_json({"__type": error.code, "message": str(error)}))

        def _invocation(self, name: str, body: bytes) -> None:
            try:
                status, answer, variant = held[0].invoke(name, body, self.headers.get("Content-Type", ""))
            except RefusedError as error:
                self._send(error.status, _as_json({"Message": str(error)}), code=error.code)
                return
            if status >= 500:
                told = {"Message": "Received server error from primary", "OriginalStatusCode": status}
                self._send(424, _as_json(told), code="ModelError", variant=variant)
                return
            self._send(status, answer, variant=variant)

        def _send(self, status: int, body: bytes, *, code: str = "", variant: str = "") -> None:
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.send_header("x-amzn-RequestId", "0")
            if code:
                self.send_header("x-amzn-ErrorType", code)
            if variant:
                self.send_header("x-Amzn-Invoked-Production-Variant", variant)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # as the class calls it
            pass

    return Handler


def _as_json(value: Any) -> bytes:
    return json.dumps(value).encode()


class AmazonServer:
    """The services' address, behind which one account at a time answers."""

    def __init__(self) -> None:
        self._held = [Amazon()]
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self._held))
        self._server.daemon_threads = True
        self.address = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self._thread.start()

    @contextmanager
    def serving(self, amazon: Amazon) -> Iterator[Amazon]:
        """This account, until the end."""
        self._held[0] = amazon
        try:
            yield amazon
        finally:
            for endpoint in amazon.endpoints.values():
                for variant in endpoint.variants.values():
                    variant.container.stop()

    def stop(self) -> None:
        """Close the address."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
