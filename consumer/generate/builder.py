"""The documents that templates are made of, in the shape that each dialect's writers give them."""

from __future__ import annotations

from base64 import b64encode
from hashlib import sha256
from random import Random
from typing import Any, Literal, TypeAlias

__all__ = ["GAS", "Builder", "Dialect", "digest"]

Dialect: TypeAlias = Literal["iota-2024", "sui-2026", "iota-sdk"]

_COMMITTEE = 4
_SYSTEM = "0x" + "0" * 64
_BASE58 = b"123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
_PAIRS = [bytes((high, low)) for high in _BASE58 for low in _BASE58]
# Per user transaction, in the order of the gas summary.
GAS = {
    "computation_cost": 1_000_000,
    "computation_cost_burned": 1_000_000,
    "storage_cost": 2_964_000,
    "storage_rebate": 1_956_240,
    "non_refundable_storage_fee": 19_760,
}


def digest(*parts: object) -> bytes:
    """32 bytes in base58, as every digest of a checkpoint is written."""
    octets = sha256("/".join(map(str, parts)).encode()).digest()
    number = int.from_bytes(octets)
    pairs = []
    while number:
        number, pair = divmod(number, 58 * 58)
        pairs.append(_PAIRS[pair])
    zeros = len(octets) - len(octets.lstrip(b"\0"))
    return b"1" * zeros + b"".join(reversed(pairs)).lstrip(b"1")


class Builder:
    """The parts of a document with holes, in one dialect; the objects' contents are longer by `filler` bytes."""

    def __init__(self, dialect: Dialect, random: Random, filler: int) -> None:
        self.dialect = dialect
        self.sdk = dialect == "iota-sdk"
        self.random = random
        self.filler = filler

    def octets(self, size: int) -> list[int] | str:
        octets = self.random.randbytes(size)
        return list(octets) if self.dialect == "iota-2024" else b64encode(octets).decode()

    def base64(self, size: int) -> str:
        return b64encode(self.random.randbytes(size)).decode()

    def address(self) -> str:
        return "0x" + self.random.randbytes(32).hex()

    def number(self, name: str) -> str:
        """A hole for a 64-bit number, which only iota-sdk-types write as a string."""
        return f"<{name}>" if self.sdk else f"<#{name}>"

    def constant(self, number: int) -> int | str:
        return str(number) if self.sdk else number

    def gas(self, amounts: dict[str, str]) -> dict[str, str]:
        if self.sdk:
            return amounts
        if self.dialect == "sui-2026":
            amounts = {name: amount for name, amount in amounts.items() if name != "computation_cost_burned"}
        return {_camel(name): amount for name, amount in amounts.items()}

    def document(self, transactions: int, ends: bool, fails: bool) -> dict[str, Any]:
        """A checkpoint; if it `fails`, its last user transaction does."""
        kinds = ["ConsensusCommitPrologueV1"] + ["ProgrammableTransaction"] * (transactions - 1)
        if ends:
            kinds[-1] = "EndOfEpochTransaction"
        users = [index for index, kind in enumerate(kinds) if kind == "ProgrammableTransaction"]
        failing = users[-1] if fails and users else None
        return {
            "checkpoint_summary": self.summary(ends),
            "checkpoint_contents": self.contents(kinds),
            "transactions": [self.transaction(index, kind, index == failing) for index, kind in enumerate(kinds)],
        }

    def summary(self, ends: bool) -> dict[str, Any]:
        data = {
            "epoch": self.number("epoch"),
            "sequence_number": self.number("sequence_number"),
            "network_total_transactions": self.number("total"),
            "contents_digest" if self.sdk else "content_digest": "<content_digest>",
            "previous_digest": "<#previous_digest>",
            "epoch_rolling_gas_cost_summary": self.gas({name: f"<{name}>" for name in GAS}),
            "timestamp_ms": self.number("timestamp_ms"),
            "checkpoint_commitments": [],
            "end_of_epoch_data": self.end_of_epoch() if ends else None,
            "version_specific_data": self.octets(2),
        }
        if self.sdk:
            bitmap = {
                "epoch": "<epoch>",
                "signature": self.base64(48),
                "bitmap": self.base64(22),
            }
            return {"checkpoint": data, "signature": bitmap}
        signature = {
            "epoch": "<#epoch>",
            "signature": self.base64(48),
            "signers_map": self.octets(22),
        }
        return {"data": data, "auth_signature": signature}

    def end_of_epoch(self) -> dict[str, Any]:
        keys = [self.base64(96) for _ in range(_COMMITTEE)]
        commitment = digest(self.random.random()).decode()
        if self.sdk:
            return {
                "next_epoch_committee": [{"public_key": key, "stake": "2500"} for key in keys],
                "next_epoch_protocol_version": "1",
                "epoch_commitments": [{"EcmhLiveObjectSet": {"digest": commitment}}],
                "epoch_supply_change": 767_000_000_000_000,
            }
        data: dict[str, Any] = {
            "nextEpochCommittee": [[key, "2500"] for key in keys],
            "nextEpochProtocolVersion": "1",
            "epochCommitments": [{"ECMHLiveObjectSetDigest": {"digest": commitment}}],
        }
        return data if self.dialect == "sui-2026" else {**data, "epochSupplyChange": 767_000_000_000_000}

    def contents(self, kinds: list[str]) -> Any:
        digests = [{"transaction": f"<transaction_{i}>", "effects": f"<effects_{i}>"} for i in range(len(kinds))]
        signatures = [[self.base64(97)] for _ in kinds]
        if self.sdk:
            return [{**pair, "signatures": each} for pair, each in zip(digests, signatures, strict=True)]
        return {"V1": {"transactions": digests, "user_signatures": signatures}}

    def transaction(self, index: int, kind: str, fails: bool) -> dict[str, Any]:
        user = kind == "ProgrammableTransaction"
        sender, thing, module = (
            (self.address() if user else _SYSTEM),
            self.address(),
            self.address(),
        )
        emits = user and not fails
        return {
            "transaction": self.signed(kind, sender, thing),
            "effects": self.effects(index, user, fails, thing),
            "events": self.events(sender, module) if emits else None,
            "input_objects": [self.object(thing, sender, module, "before", index)],
            "output_objects": [self.object(thing, sender, module, "version", index)],
        }

    def signed(self, kind: str, sender: str, thing: str) -> dict[str, Any]:
        gas = {
            "owner": sender,
            "price": self.constant(1000),
            "budget": self.constant(50_000_000),
        }
        if self.sdk:
            body = {
                "kind": self.kind(kind, thing),
                "sender": sender,
                "gas_payment": {"objects": [], **gas},
            }
            data = {"V1": {**body, "expiration": "None"}}
            return {"transaction": data, "signatures": [self.base64(97)]}
        body = {
            "kind": self.kind(kind, thing),
            "sender": sender,
            "gas_data": {"payment": [], **gas},
        }
        message = {
            "intent": {"scope": 0, "version": 0, "app_id": 0},
            "value": {"V1": {**body, "expiration": "None"}},
        }
        return {
            "data": [{"intent_message": message, "tx_signatures": [self.base64(97)]}],
            "auth_signature": {},
        }

    def kind(self, kind: str, thing: str) -> dict[str, Any]:
        if kind == "ProgrammableTransaction":
            call = {
                "package": thing,
                "module": "market",
                "function": "trade",
                "type_arguments": [],
                "arguments": [],
            }
            data = {
                "inputs": [{"Pure": self.octets(8)}],
                "commands": [{"MoveCall": call}],
            }
            return {"Programmable" if self.sdk else kind: data}
        if kind == "EndOfEpochTransaction":
            change: dict[str, Any] = {
                "epoch": self.number("next_epoch"),
                "protocol_version": self.constant(1),
                "epoch_start_timestamp_ms": self.number("timestamp_ms"),
                "system_packages": [],
            }
            return {"EndOfEpoch" if self.sdk else kind: [{"ChangeEpoch": change}]}
        commit = {
            "epoch": self.number("epoch"),
            "round": self.number("version"),
            "sub_dag_index": None,
            "commit_timestamp_ms": self.number("timestamp_ms"),
            "consensus_commit_digest": "<content_digest>",
        }
        return {kind: commit}

    def effects(self, index: int, user: bool, fails: bool, thing: str) -> dict[str, Any]:
        data = {
            "status": self.status(fails),
            "epoch" if self.sdk else "executed_epoch": self.number("epoch"),
            "gas_cost_summary" if self.sdk else "gas_used": self.gas(
                {name: str(cost if user else 0) for name, cost in GAS.items()}
            ),
            "transaction_digest": f"<transaction_{index}>",
            "gas_object_index": 0 if user else None,
            "events_digest": f"<events_{index}>" if user and not fails else None,
            "dependencies": [],
            "lamport_version": self.number("version"),
            "changed_objects": [
                [
                    thing,
                    {"output_state": {"ObjectWrite": [f"<effects_{index}>", "Immutable"]}},
                ]
            ],
            "unchanged_shared_objects": [],
        }
        return {"V2" if self.dialect == "sui-2026" else "V1": data}

    def status(self, fails: bool) -> Any:
        failure = {"error": "InsufficientGas", "command": None}
        if self.sdk:
            return {"success": False, "status": failure} if fails else {"success": True}
        return {"Failure": failure} if fails else "Success"

    def events(self, sender: str, package: str) -> Any:
        named = {
            "address": package.removeprefix("0x"),
            "module": "market",
            "name": "Traded",
            "type_args": [],
        }
        if self.sdk:
            kind = f"{package}::market::Traded"
            return [
                {
                    "package_id": package,
                    "module": "market",
                    "sender": sender,
                    "type": kind,
                    "contents": "AQID",
                }
            ]
        event = {
            "package_id": package,
            "transaction_module": "market",
            "sender": sender,
            "type_": named,
        }
        return {"data": [{**event, "contents": self.octets(112)}]}

    def object(self, thing: str, owner: str, package: str, version: str, index: int) -> dict[str, Any]:
        kind = {
            "address": package.removeprefix("0x"),
            "module": "market",
            "name": "Book",
            "type_args": [],
        }
        contents = self.octets(40 + self.filler)
        move = {
            "type_": {"Other": kind},
            "version": self.number(version),
            "contents": contents,
        }
        return {
            "object_id" if self.sdk else "data": thing if self.sdk else {"Move": move},
            **({"data": {"Struct": move}} if self.sdk else {}),
            "owner": {"AddressOwner": owner},
            "previous_transaction": f"<transaction_{index}>",
            "storage_rebate": self.constant(988_000),
        }


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)
