from meshway.examples.v1 import catalog_pb2 as _catalog_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Item(_message.Message):
    __slots__ = ("sku", "quantity")
    SKU_FIELD_NUMBER: _ClassVar[int]
    QUANTITY_FIELD_NUMBER: _ClassVar[int]
    sku: str
    quantity: int
    def __init__(self, sku: _Optional[str] = ..., quantity: _Optional[int] = ...) -> None: ...

class Total(_message.Message):
    __slots__ = ("pieces", "price_cents")
    PIECES_FIELD_NUMBER: _ClassVar[int]
    PRICE_CENTS_FIELD_NUMBER: _ClassVar[int]
    pieces: int
    price_cents: int
    def __init__(self, pieces: _Optional[int] = ..., price_cents: _Optional[int] = ...) -> None: ...

class CheckoutRequest(_message.Message):
    __slots__ = ("items",)
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    items: _containers.RepeatedCompositeFieldContainer[Item]
    def __init__(self, items: _Optional[_Iterable[_Union[Item, _Mapping]]] = ...) -> None: ...

class CheckoutResponse(_message.Message):
    __slots__ = ("order_id", "total", "points", "served_by")
    ORDER_ID_FIELD_NUMBER: _ClassVar[int]
    TOTAL_FIELD_NUMBER: _ClassVar[int]
    POINTS_FIELD_NUMBER: _ClassVar[int]
    SERVED_BY_FIELD_NUMBER: _ClassVar[int]
    order_id: str
    total: Total
    points: int
    served_by: _catalog_pb2.ServedBy
    def __init__(self, order_id: _Optional[str] = ..., total: _Optional[_Union[Total, _Mapping]] = ..., points: _Optional[int] = ..., served_by: _Optional[_Union[_catalog_pb2.ServedBy, _Mapping]] = ...) -> None: ...

class AddItemsRequest(_message.Message):
    __slots__ = ("item",)
    ITEM_FIELD_NUMBER: _ClassVar[int]
    item: Item
    def __init__(self, item: _Optional[_Union[Item, _Mapping]] = ...) -> None: ...

class AddItemsResponse(_message.Message):
    __slots__ = ("total", "served_by")
    TOTAL_FIELD_NUMBER: _ClassVar[int]
    SERVED_BY_FIELD_NUMBER: _ClassVar[int]
    total: Total
    served_by: _catalog_pb2.ServedBy
    def __init__(self, total: _Optional[_Union[Total, _Mapping]] = ..., served_by: _Optional[_Union[_catalog_pb2.ServedBy, _Mapping]] = ...) -> None: ...

class TrackTotalRequest(_message.Message):
    __slots__ = ("item",)
    ITEM_FIELD_NUMBER: _ClassVar[int]
    item: Item
    def __init__(self, item: _Optional[_Union[Item, _Mapping]] = ...) -> None: ...

class TrackTotalResponse(_message.Message):
    __slots__ = ("total", "served_by")
    TOTAL_FIELD_NUMBER: _ClassVar[int]
    SERVED_BY_FIELD_NUMBER: _ClassVar[int]
    total: Total
    served_by: _catalog_pb2.ServedBy
    def __init__(self, total: _Optional[_Union[Total, _Mapping]] = ..., served_by: _Optional[_Union[_catalog_pb2.ServedBy, _Mapping]] = ...) -> None: ...
