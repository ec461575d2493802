"""The messages of Vertex AI Vector Search that are sent and read here, without the package that has them all.

google-cloud-aiplatform loads its thousands of messages together, which takes seconds and about 80 MB before the first search.
Field numbers are those of `google/cloud/aiplatform/v1/{index,match_service,index_service,index_endpoint}.proto`; a field that is
not listed is ignored when it is read. A pool of their own keeps them apart from that package, should a process load both.
"""

from __future__ import annotations

import re
import threading
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from google.protobuf.descriptor_pb2 import FieldDescriptorProto

MessageClass: TypeAlias = Any
"""A class that protobuf makes; its fields are known only when it runs."""

PACKAGE = "google.cloud.aiplatform.v1"
STRUCT = "google.protobuf.Struct"

FIELDS = {
    "IndexDatapoint": "datapoint_id=1:string feature_vector=2:float* restricts=4:Restriction*"
    f" sparse_embedding=7:SparseEmbedding embedding_metadata=8:{STRUCT}",
    "Restriction": "namespace=1:string allow_list=2:string* deny_list=3:string*",
    "SparseEmbedding": "values=1:float* dimensions=2:int64*",
    "FindNeighborsRequest": "index_endpoint=1:string deployed_index_id=2:string queries=3:Query* return_full_datapoint=4:bool",
    "Query": "datapoint=1:IndexDatapoint neighbor_count=2:int32 rrf=6:RRF",
    "RRF": "alpha=1:float",
    "FindNeighborsResponse": "nearest_neighbors=1:NearestNeighbors*",
    "NearestNeighbors": "neighbors=2:Neighbor*",
    "Neighbor": "datapoint=1:IndexDatapoint distance=2:double sparse_distance=3:double",
    "ReadIndexDatapointsRequest": "index_endpoint=1:string deployed_index_id=2:string ids=3:string*",
    "ReadIndexDatapointsResponse": "datapoints=1:IndexDatapoint*",
    "UpsertDatapointsRequest": "index=1:string datapoints=2:IndexDatapoint*",
    "UpsertDatapointsResponse": "",
    "RemoveDatapointsRequest": "index=1:string datapoint_ids=2:string*",
    "RemoveDatapointsResponse": "",
    "GetIndexEndpointRequest": "name=1:string",
    "IndexEndpoint": "name=1:string deployed_indexes=4:DeployedIndex* public_endpoint_domain_name=14:string",
    "DeployedIndex": "id=1:string",
}
"""Each message's fields as `name=number:type`, with `*` where a field repeats."""


_classes: dict[str, MessageClass] = {}
_lock = threading.Lock()


def message(name: str) -> MessageClass:
    """Return the class of a message by its name in `FIELDS`; all are made together when the first is asked for."""
    if name not in _classes:
        with _lock:
            if not _classes:
                _classes.update(build())
    return _classes[name]


def build() -> dict[str, MessageClass]:
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, struct_pb2

    file = descriptor_pb2.FileDescriptorProto(
        name="brainstem/vertex.proto", package=PACKAGE, syntax="proto3", dependency=[struct_pb2.DESCRIPTOR.name]
    )
    for name, fields in FIELDS.items():
        described = file.message_type.add(name=name)
        for text in fields.split():
            describe(described.field.add(), text)
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(struct_pb2.DESCRIPTOR.serialized_pb)
    pool.AddSerializedFile(file.SerializeToString())
    return {name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{PACKAGE}.{name}")) for name in FIELDS}


def describe(field: FieldDescriptorProto, text: str) -> None:
    """Make a field what its text in `FIELDS` says."""
    from google.protobuf.descriptor_pb2 import FieldDescriptorProto

    name, number, kind = re.split("[=:]", text)
    field.name, field.number = name, int(number)
    field.label = FieldDescriptorProto.LABEL_REPEATED if kind.endswith("*") else FieldDescriptorProto.LABEL_OPTIONAL
    kind = kind.removesuffix("*")
    if kind.islower():
        field.type = FieldDescriptorProto.Type.Value(f"TYPE_{kind.upper()}")
    else:
        field.type = FieldDescriptorProto.TYPE_MESSAGE
        field.type_name = f".{kind}" if "." in kind else f".{PACKAGE}.{kind}"
