"""Attacks with nats-py, a NATS client that none of Sealbus's own code touches.

Usage: attacks.py FILE. The file (JSON) holds a valid session and what to attack with; see tests/hostile/python.rs.
Prints one line of JSON an attack: its name, and what the server said to it (null: the server let it through, and
refusing is the guard's business).
"""

import asyncio
import base64
import json
import sys

import nats
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey


def signer(seed):
    key = Ed25519PrivateKey.from_private_bytes(bytes.fromhex(seed))
    return lambda nonce: base64.urlsafe_b64encode(key.sign(nonce.encode())).rstrip(b"=")


class Attacker:
    def __init__(self, given):
        self.given, self.errors, self.nats = given, [], None

    async def login(self, seed):
        async def on_error(error):
            self.errors.append(str(error))

        return await nats.connect(
            self.given["url"],
            token=self.given["token"],
            signature_cb=signer(seed),
            error_cb=on_error,
            allow_reconnect=False,
            connect_timeout=10,
        )

    async def said(self):
        """What the server said since it was last asked."""
        # nats-py's flush sends PING before what is pending: the answer to the second one comes after it.
        for _ in range(2):
            await self.nats.flush(timeout=10)
        said, self.errors = " ".join(self.errors), []
        return said or None

    async def publish(self, name, subject, payload=b"", reply="", headers=None):
        await self.nats.publish(subject, payload, reply=reply, headers=headers)
        report(name, await self.said())

    async def listen(self, name, subject, queue=""):
        await self.nats.subscribe(subject, queue=queue)
        report(name, await self.said())


def report(name, said):
    print(json.dumps({"attack": name, "said": said}), flush=True)


async def main(given):
    attacker = Attacker(given)
    try:
        await attacker.login(given["other_seed"])
        report("log in with a stolen token", None)
    except Exception as error:
        report("log in with a stolen token", str(error))
    attacker.errors = []

    attacker.nats = await attacker.login(given["seed"])
    box = await attacker.nats.subscribe(given["box"])
    await attacker.nats.publish(given["control"] + "hello", bytes.fromhex(given["hello"]))
    while not (await box.next_msg(timeout=20)).subject.endswith(".welcome"):
        pass
    envelope, ingress = bytes.fromhex(given["envelope"]), given["ingress"]
    report("an honest envelope", None)
    await attacker.nats.publish(ingress, envelope)
    await attacker.said()

    await attacker.publish("publish on another agent's ingress", given["other_ingress"], envelope)
    await attacker.publish("publish on a delivery subject", "sb.out.0.tips.a", envelope)
    await attacker.publish("publish into another's box", given["other_box"], b"x")
    await attacker.publish("publish an event", "sb.events.quarantine", b"{}")
    await attacker.publish("purge a stream", "$JS.API.STREAM.PURGE.X")
    await attacker.listen("read every ingress", "sb.in.>")
    await attacker.listen("read everything", ">")
    await attacker.listen("read another's box", given["other_box"])
    await attacker.listen("read a stream in a queue group of its own", "sb.out.0.tips.>", "mine")

    await attacker.publish("replay", ingress, envelope)
    await attacker.publish("cut an envelope", ingress, envelope[: len(envelope) // 2])
    altered = bytearray(bytes.fromhex(given["second"]))
    altered[-1] ^= 1
    await attacker.publish("alter an envelope", ingress, bytes(altered))
    await attacker.publish("say hello as another agent", given["control"] + "hello", bytes.fromhex(given["other_hello"]))
    await attacker.publish(
        "ask the guard to delete a stream",
        ingress,
        b"junk",
        reply="$JS.API.STREAM.DELETE.X",
        headers={"Nats-Rollup": "all", "Sealbus-Admission": "forged"},
    )
    # Replay, cut, altered, hello, junk: each is answered before the session goes.
    denied = 0
    while denied < 5:
        denied += (await box.next_msg(timeout=20)).subject.endswith(".denied")
    await attacker.nats.close()


with open(sys.argv[1], encoding="utf-8") as file:
    asyncio.run(main(json.load(file)))
