//! The form of a vector file, and how one is replayed.

use std::{collections::HashMap, sync::Arc};

use sealbus_envelope::{
    approval::SignedApproval,
    control::{AuthToken, GuardEpoch, Heartbeat, ReaderRecord, SessionStatement},
    hash::{Hash, hex},
    identity::{BusId, Credential, KeyKind, Member, PublicKey, Roots, SessionCertificate, SessionId, Status},
    keys::{BoxKey, KeyId, KeyScope, ReaderSecret, SenderKey},
    label::{Clearance, Compartments, Integrity, Label, Level},
    name::Name,
    order::SignedOrder,
    policy::{
        Bundle, Excerpt, ExcerptRecord, Faults, FlowGrant, Hold, MessageKind, Oversight, Records, Rule,
        Tables, TaintScope, ZoneTls, check_flow, check_publish,
    },
    reader::{
        Context, Delivery, EpochFloor, Lookup, PolicyHistory, ReadingKey, ReplayWindow, accept_grant,
        check_reader, read,
    },
    reason::{Reason, Refused},
    subject::{Partition, Subject, WireSubjects},
    time::Millis,
    wire::{Decoded, Opened},
};
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;
use serde_json::{Map, Value, json};
use zeroize::Zeroizing;

/// One vector: an input, what its reader knows, and what must come of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Vector {
    /// What it shows, in one line.
    pub(crate) purpose: String,
    /// Which check it is for: the names of `run`.
    pub(crate) kind: String,
    pub(crate) input: Value,
    pub(crate) context: Value,
    /// `{"ok": …}` or `{"refused": reason code}`.
    pub(crate) expect: Value,
}

impl Vector {
    pub(crate) fn to_text(&self) -> String {
        let mut text = String::from("{\n");
        let parts = [
            ("purpose", json!(self.purpose)),
            ("kind", json!(self.kind)),
            ("input", self.input.clone()),
            ("context", self.context.clone()),
            ("expect", self.expect.clone()),
        ];
        for (index, (name, value)) in parts.iter().enumerate() {
            let value = serde_json::to_string_pretty(&sorted(value)).unwrap().replace('\n', "\n  ");
            text += &format!("  \"{name}\": {value}{}\n", if index + 1 < parts.len() { "," } else { "" });
        }
        text + "}\n"
    }

    /// What comes of it: as `expect` says it.
    pub(crate) fn outcome(&self) -> Value {
        match run(&self.kind, &self.input, &self.context) {
            Ok(ok) => json!({ "ok": ok }),
            Err(refused) => json!({ "refused": refused.reason }),
        }
    }
}

/// Members in alphabetical order, whatever map `serde_json` was built with.
fn sorted(value: &Value) -> Value {
    match value {
        Value::Object(map) => {
            let mut members: Vec<_> = map.iter().collect();
            members.sort_by_key(|(name, _)| name.as_str());
            members
                .into_iter()
                .map(|(name, value)| (name.clone(), sorted(value)))
                .collect::<Map<_, _>>()
                .into()
        }
        Value::Array(values) => values.iter().map(sorted).collect(),
        other => other.clone(),
    }
}

pub(crate) fn unhex(value: &Value) -> Vec<u8> {
    data_encoding::HEXLOWER.decode(value.as_str().unwrap().as_bytes()).unwrap()
}

fn array<const N: usize>(value: &Value) -> [u8; N] {
    unhex(value).try_into().unwrap()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().unwrap()
}

fn label(value: &Value) -> Label {
    let part = |n: usize| number(&value[n]);
    Label::new(
        Level::new(part(0).try_into().unwrap()).unwrap(),
        Compartments::from_bits(part(1)),
        Integrity::new(part(2).try_into().unwrap()).unwrap(),
    )
}

fn show_label(label: Label) -> Value {
    json!([label.level.number(), label.compartments.bits(), label.integrity.number()])
}

fn roots(value: &Value) -> Roots {
    Roots {
        name: Name::parse(text(&value["bus_name"])).unwrap(),
        issuer: PublicKey::from_nkey(text(&value["issuer"]), KeyKind::Account).unwrap(),
        policy_keys: list(&value["policy_keys"])
            .iter()
            .map(|key| PublicKey::from_nkey(text(key), KeyKind::User).unwrap())
            .collect(),
        quorum: number(&value["quorum"]).try_into().unwrap(),
    }
}

fn member(value: &Value, roots: &Roots) -> Arc<Member> {
    let certificate = unhex(&value["certificate"]);
    Member::verify(text(&value["credential"]), &certificate, roots.bus(), &roots.issuer).unwrap().into()
}

/// What a reader of the vectors knows.
struct Knowledge {
    me: Arc<Member>,
    roots: Roots,
    subjects: WireSubjects,
    tables: Tables,
    policies: PolicyHistory,
    epochs: EpochFloor,
    status: Status,
    now: Millis,
    skew_ms: u64,
    guards: Vec<Arc<Credential>>,
    members: HashMap<SessionId, Arc<Member>>,
    rules: Vec<Arc<Rule>>,
    grants: Vec<Arc<FlowGrant>>,
    keys: HashMap<KeyId, Arc<ReadingKey>>,
    asked: Vec<Hash>,
}

impl Knowledge {
    fn new(context: &Value) -> Self {
        let roots = roots(&context["roots"]);
        let bundle = Bundle::verify(&unhex(&context["policy"]), &roots).unwrap();
        let none = vec![];
        let all = |name: &str| context[name].as_array().unwrap_or(&none).clone();
        let mut policies = PolicyHistory::default();
        for entry in all("policies") {
            let (version, since) = (number(&entry["version"]), Millis(number(&entry["since"])));
            policies.enter(version, array(&entry["digest"]), since).unwrap();
        }
        let epochs = EpochFloor::default();
        for entry in all("epochs") {
            let partition = Partition::new(number(&entry["partition"]).try_into().unwrap()).unwrap();
            epochs.note(partition, number(&entry["epoch"])).unwrap();
        }
        let keys = all("keys").into_iter().map(|entry| {
            let scope = KeyScope {
                bus: roots.bus(),
                session: SessionId::from_bytes(array(&entry["session"])),
                rule: Name::parse(text(&entry["rule"])).unwrap(),
                label: label(&entry["label"]),
                epoch: number(&entry["epoch"]).try_into().unwrap(),
            };
            let mut window = ReplayWindow::default();
            for sequence in list(&entry["read"]) {
                window.insert(number(sequence)).unwrap();
            }
            let key = SenderKey::new(Zeroizing::new(array(&entry["secret"])), scope);
            (key.id(), Arc::new(ReadingKey::with_window(key, window)))
        });
        Self {
            me: member(&context["me"], &roots),
            subjects: WireSubjects::new(text(&context["prefix"])).unwrap(),
            tables: bundle.tables().clone(),
            policies,
            epochs,
            status: Status::verify(&unhex(&context["status"]), roots.bus(), &bundle.tables().status_key)
                .unwrap(),
            now: Millis(number(&context["now"])),
            skew_ms: number(&context["skew_ms"]),
            guards: all("guards")
                .iter()
                .map(|text| {
                    Credential::verify(text.as_str().unwrap(), roots.bus(), &roots.issuer).unwrap().into()
                })
                .collect(),
            members: all("members")
                .iter()
                .map(|entry| member(entry, &roots))
                .map(|m| (m.session(), m))
                .collect(),
            rules: bundle.rules().iter().cloned().map(Arc::new).collect(),
            grants: bundle.grants().iter().cloned().map(Arc::new).collect(),
            keys: keys.collect(),
            asked: all("asked").iter().map(array).collect(),
            roots,
        }
    }

    fn context(&self) -> Context<'_> {
        Context {
            me: &self.me,
            subjects: &self.subjects,
            tables: &self.tables,
            policies: &self.policies,
            epochs: &self.epochs,
            status: &self.status,
            now: self.now,
            skew_ms: self.skew_ms,
        }
    }
}

impl Lookup for Knowledge {
    fn guard(&self, key: &[u8; 32]) -> Option<Arc<Credential>> {
        self.guards.iter().find(|guard| guard.claims().identity.as_bytes() == key).cloned()
    }
    fn member(&self, session: &SessionId) -> Option<Arc<Member>> {
        self.members.get(session).cloned()
    }
    fn rule(&self, name: &str) -> Option<Arc<Rule>> {
        self.rules.iter().find(|rule| rule.name.as_str() == name).cloned()
    }
    fn flow_grant(&self, name: &str) -> Option<Arc<FlowGrant>> {
        self.grants.iter().find(|grant| grant.name.as_str() == name).cloned()
    }
    fn key(&self, id: &KeyId) -> Option<Arc<ReadingKey>> {
        self.keys.get(id).cloned()
    }
    fn asked(&self, request: &Hash) -> bool {
        self.asked.contains(request)
    }
}

/// Replays one vector.
pub(crate) fn run(kind: &str, input: &Value, context: &Value) -> Result<Value, Refused> {
    match kind {
        "delivery" => delivery(input, context),
        "arrival" => arrival(input, context),
        "grant" => grant(input, context),
        "reader" => reader(input, context),
        "credential" => credential(input, context),
        "certificate" => certificate(input, context),
        "box_key" => box_key(input, context),
        "status" => status(input, context),
        "bundle" => bundle(input, context),
        "excerpt" => excerpt(input, context),
        "statement" => statement(input, context),
        "heartbeat" => heartbeat(input, context),
        "auth_token" => auth_token(input, context),
        "order" => order(input, context),
        "approval" => approval(input, context),
        other => panic!("unknown kind {other}"),
    }
}

fn delivery(input: &Value, context: &Value) -> Result<Value, Refused> {
    let knowledge = Knowledge::new(context);
    let envelope = unhex(&input["envelope"]);
    let delivery = Delivery {
        bytes: &envelope,
        admission: input["admission"].as_str(),
        approvals: input["approvals"].as_str(),
        subject: text(&input["subject"]),
    };
    let opened = read(&delivery, &knowledge.context(), &knowledge, &())?;
    // Read twice, it is a replay: what was read is marked.
    let again = read(&delivery, &knowledge.context(), &knowledge, &());
    assert_eq!(again.map(|_| ()).unwrap_err().reason, Reason::Replay);
    Ok(show_opened(&opened))
}

fn show_opened(opened: &Opened) -> Value {
    let (header, decision, content) = (opened.header(), opened.decision(), opened.content());
    json!({
        "digest": hex(&opened.digest()),
        "id": header.id.to_string(),
        "sender": header.sender,
        "session": header.session.to_string(),
        "rule": header.rule,
        "subject": header.subject,
        "label": show_label(header.label),
        "flow_grant": header.flow_grant,
        "key": header.key.to_string(),
        "sequence": header.sequence,
        "issued_at": header.issued_at,
        "ttl_ms": header.ttl_ms,
        "parents": header.parents.iter()
            .map(|parent| json!([hex(&parent.digest), show_label(parent.label)])).collect::<Vec<_>>(),
        "request": header.request.map(|digest| hex(&digest)),
        "confirm": header.flags.confirm(),
        "admitted_at": decision.time,
        "policy_version": decision.policy_version,
        "partition": decision.partition,
        "epoch": decision.epoch,
        "position": decision.position,
        "observed": decision.observed,
        "content_type": content.content_type,
        "traceparent": content.traceparent,
        "payload": hex(&content.payload),
    })
}

/// The guard's checks that need no state of its own but one session and the next sequence of one key.
fn arrival(input: &Value, context: &Value) -> Result<Value, Refused> {
    let knowledge = Knowledge::new(context);
    let session = &knowledge.me;
    let subject = text(&input["subject"]);
    let ingress =
        knowledge.subjects.read_ingress(subject).ok_or(Refused::new(Reason::BadSubject, "wire subject"))?;
    sealbus_envelope::name::AgentToken::check(ingress.agent)?;
    let bytes = unhex(&input["envelope"]);
    let decoded = Decoded::decode(&bytes)?;
    let header = *decoded.claimed();
    if header.session != session.session() || ingress.agent != session.token().as_str() {
        return Err(Refused::new(Reason::UnknownSession, "header.session"));
    }
    if header.bus != knowledge.roots.bus() {
        return Err(Refused::new(Reason::WrongBus, "header.bus"));
    }
    if header.sender != ingress.agent {
        return Err(Refused::new(Reason::WrongSender, "header.sender"));
    }
    if header.subject != ingress.logical || ingress.partition != Partition::of(session.token()) {
        return Err(Refused::new(Reason::WrongSubject, "header.subject"));
    }
    header.check_arrival(knowledge.now, u64::from(knowledge.tables.freshness_ms))?;
    session.certificate().check_time(knowledge.now)?;
    session.credential().check_time(knowledge.now)?;
    let key = list(&context["open"]).iter().find(|key| unhex(&key["key"]) == header.key.as_bytes());
    if let Some(key) = key {
        if text(&key["rule"]) != header.rule || label(&key["label"]) != header.label {
            return Err(Refused::new(Reason::KeyMismatch, "header.key"));
        }
        if header.sequence < number(&key["next"]) {
            return Err(Refused::new(Reason::Replay, "header.sequence"));
        }
    }
    let verified = decoded.verify(session.certificate(), session.credential(), &())?;
    let rule = knowledge.rule(header.rule).ok_or(Refused::new(Reason::UnknownRule, "header.rule"))?;
    let subject = Subject::parse(header.subject)?;
    let (tables, claims, reply) = (&knowledge.tables, session.claims(), header.request.is_some());
    if reply && rule.kind == MessageKind::Stream {
        return Err(Refused::new(Reason::WrongPattern, "header.request"));
    }
    let mut faults = Faults::observing(tables.observes(&rule, claims));
    check_publish(tables, &rule, claims, &subject, header.label, reply, &mut faults)?;
    if bytes.len() > usize::try_from(rule.max_bytes).unwrap() {
        faults.found(Reason::TooBigForRule, "envelope")?;
    }
    let named = header.flow_grant.and_then(|name| knowledge.flow_grant(name));
    let used = check_flow(&header, named.as_deref(), claims, bytes.len(), knowledge.now, &mut faults)?;
    key.ok_or(Refused::new(Reason::UnknownKey, "header.key"))?;
    Ok(json!({
        "digest": hex(&verified.digest()),
        "flow_grant": used.map(|grant| &grant.name),
        "observed": faults.observed().map(|fault| fault.reason),
    }))
}

fn grant(input: &Value, context: &Value) -> Result<Value, Refused> {
    let knowledge = Knowledge::new(context);
    let sender = member(&context["sender"], &knowledge.roots);
    let secrets: Vec<_> = list(&context["reader_keys"])
        .iter()
        .map(|entry| (array(&entry["digest"]), ReaderSecret::from_seed(&array(&entry["seed"]))))
        .collect();
    let secrets: Vec<_> = secrets.iter().map(|(digest, secret)| (*digest, secret)).collect();
    let key = accept_grant(&unhex(&input["grant"]), &sender, &secrets, &knowledge.context(), &knowledge)?;
    let scope = key.scope();
    Ok(json!({
        "key": key.id().to_string(),
        "session": scope.session.to_string(),
        "rule": scope.rule,
        "label": show_label(scope.label),
        "epoch": scope.epoch,
    }))
}

fn reader(input: &Value, context: &Value) -> Result<Value, Refused> {
    let knowledge = Knowledge::new(context);
    let record = ReaderRecord {
        credential: text(&input["credential"]).to_owned(),
        certificate: ByteBuf::from(unhex(&input["certificate"])),
        reader_key: ByteBuf::from(unhex(&input["reader_key"])),
    };
    let rule = knowledge.rule(text(&context["rule"])).unwrap();
    let asked = context["for_reply"].as_bool().unwrap();
    let issuer = &knowledge.roots.issuer;
    let (reader, key) =
        check_reader(&record, issuer, &rule, label(&context["label"]), asked, &knowledge.context())?;
    Ok(json!({
        "reader": reader.token(),
        "session": reader.session().to_string(),
        "digest": hex(&key.digest()),
        "public": hex(key.public().as_bytes()),
    }))
}

fn credential(input: &Value, context: &Value) -> Result<Value, Refused> {
    let roots = roots(&context["roots"]);
    let credential = Credential::verify(text(&input["credential"]), roots.bus(), &roots.issuer)?;
    credential.check_time(Millis(number(&context["now"])))?;
    let claims = credential.claims();
    Ok(json!({
        "token": credential.token(),
        "identity": hex(claims.identity.as_bytes()),
        "name": claims.name,
        "team": claims.team,
        "role": claims.role,
        "level": claims.clearance.level,
        "compartments": claims.clearance.compartments.bits(),
        "integrity": claims.integrity_ceiling,
        "zones": claims.zones,
        "not_before": claims.validity.not_before,
        "not_after": claims.validity.not_after,
    }))
}

fn bus(context: &Value) -> BusId {
    roots(&context["roots"]).bus()
}

fn certificate(input: &Value, context: &Value) -> Result<Value, Refused> {
    let certificate = SessionCertificate::verify(&unhex(&input["certificate"]), bus(context))?;
    certificate.check_time(Millis(number(&context["now"])))?;
    Ok(json!({
        "session": certificate.id().to_string(),
        "token": certificate.id().token(),
        "identity": hex(certificate.identity().as_bytes()),
        "session_key": hex(certificate.session_key().as_bytes()),
        "not_before": certificate.validity().not_before,
        "not_after": certificate.validity().not_after,
    }))
}

fn box_key(input: &Value, context: &Value) -> Result<Value, Refused> {
    let identity = PublicKey::from_bytes(&array(&context["identity"])).unwrap();
    let key = BoxKey::verify(&unhex(&input["box_key"]), bus(context), &identity)?;
    Ok(json!({
        "digest": hex(&key.digest()),
        "public": hex(key.public().as_bytes()),
        "not_before": key.validity().not_before,
        "not_after": key.validity().not_after,
    }))
}

fn status(input: &Value, context: &Value) -> Result<Value, Refused> {
    let key = PublicKey::from_bytes(&array(&context["status_key"])).unwrap();
    let status = Status::verify(&unhex(&input["status"]), bus(context), &key)?;
    status.check_time(Millis(number(&context["now"])))?;
    Ok(json!({
        "version": status.version,
        "policy_version": status.policy_version,
        "issued": status.issued,
        "valid_until": status.valid_until,
        "revoked": status.revoked.iter()
            .map(|r| json!([hex(r.identity.as_bytes()), r.at])).collect::<Vec<_>>(),
    }))
}

fn show_policy(version: u64, digest: &Hash, records: &Records) -> Value {
    let tables = &records.tables;
    let clearance = |clearance: Clearance| json!([clearance.level.number(), clearance.compartments.bits()]);
    json!({
        "version": version,
        "digest": hex(digest),
        "observe": tables.observe,
        "teams": tables.teams.iter().map(|team| json!({
            "name": team.name,
            "clearance": clearance(team.clearance),
            "integrity": team.integrity_ceiling,
            "zone": team.zone,
            "taint": if team.taint == TaintScope::Agent { "agent" } else { "session" },
            "observe": team.observe,
            "oversight": team.oversight.map(Oversight::code),
        })).collect::<Vec<_>>(),
        "zones": tables.zones.iter().map(|zone| json!({
            "name": zone.name,
            "ceiling": clearance(zone.ceiling),
            "servers": zone.servers,
            "cluster": zone.cluster,
            "tags": zone.tags,
            "tls": match zone.tls {
                ZoneTls::Any => "any",
                ZoneTls::Encrypted => "encrypted",
                ZoneTls::Verified => "verified",
            },
            "ca": zone.ca.map(|ca| hex(&ca)),
        })).collect::<Vec<_>>(),
        "rules": records.rules.iter().map(|rule| json!({
            "name": rule.name,
            "fan_in": rule.fan_in,
            "observe": rule.observe,
            "hold": rule.hold.as_ref().map(show_hold),
            "oversight": rule.oversight.map(Oversight::code),
        })).collect::<Vec<_>>(),
        "grants": records.grants.iter().map(|grant| json!({
            "name": grant.name,
            "team": grant.team,
            "from": grant.from.as_str(),
            "to": grant.to.as_str(),
            "from_label": show_label(grant.from_label),
            "to_label": show_label(grant.to_label),
            "max_bytes": grant.max_bytes,
            "rate": grant.rate.map(|rate| [rate.per_second, rate.burst]),
            "expires": grant.expires,
            "approval": grant.approval.as_ref().map(show_hold),
        })).collect::<Vec<_>>(),
        "supervision": records.supervision.as_ref().map(|supervision| json!({
            "quorums": supervision.quorums.iter().map(|(kind, keys)| json!([kind.code(), keys])).collect::<Vec<_>>(),
            "watch": supervision.anomaly.watch,
            "quarantine": supervision.anomaly.quarantine,
            "half_life_ms": supervision.anomaly.half_life_ms,
            "warm_up_ms": supervision.anomaly.warm_up_ms,
            "warm_up_messages": supervision.anomaly.warm_up_messages,
            "divert": supervision.anomaly.divert,
            "weights": supervision.anomaly.weights,
        })),
    })
}

fn show_hold(hold: &Hold) -> Value {
    let person = |(name, key): &(Name, PublicKey)| json!([name, hex(key.as_bytes())]);
    json!({
        "approvals": hold.approvals,
        "deadline_ms": hold.deadline_ms,
        "lists": hold.lists.iter().map(|list| json!({
            "name": list.name,
            "after_ms": list.after_ms,
            "people": list.people.iter().map(person).collect::<Vec<_>>(),
        })).collect::<Vec<_>>(),
    })
}

fn order(input: &Value, context: &Value) -> Result<Value, Refused> {
    let signed = SignedOrder::verify(&unhex(&input["order"]), &roots(&context["roots"]))?;
    signed.check_time(Millis(number(&context["now"])))?;
    let order = signed.order();
    Ok(json!({
        "digest": hex(&signed.digest()),
        "id": order.id.to_string(),
        "kind": order.kind.code(),
        "target": order.target.to_string(),
        "reason": order.reason,
        "issued": order.issued,
        "valid_until": order.valid_until,
        "signers": signed.signers().map(|key| hex(key.as_bytes())).collect::<Vec<_>>(),
    }))
}

fn approval(input: &Value, context: &Value) -> Result<Value, Refused> {
    let signed = SignedApproval::verify(&unhex(&input["approval"]), bus(context))?;
    let approval = signed.approval();
    Ok(json!({
        "envelope": hex(&approval.envelope),
        "approve": approval.approve,
        "time": approval.time,
        "key": hex(signed.key().as_bytes()),
    }))
}

fn bundle(input: &Value, context: &Value) -> Result<Value, Refused> {
    let bundle = Bundle::verify(&unhex(&input["bundle"]), &roots(&context["roots"]))?;
    let head = bundle.head().fields();
    Ok(show_policy(head.version, &head.root, bundle.records()))
}

fn excerpt(input: &Value, context: &Value) -> Result<Value, Refused> {
    let path = |value: &Value| list(value).iter().map(array).collect();
    let records = |value: &Value| {
        let record = |record: &Value| ExcerptRecord {
            index: number(&record["index"]).try_into().unwrap(),
            record: unhex(&record["record"]),
            path: path(&record["path"]),
        };
        list(value).iter().map(record).collect()
    };
    let excerpt = Excerpt {
        head: unhex(&input["head"]),
        tables: unhex(&input["tables"]),
        tables_path: path(&input["tables_path"]),
        rules: records(&input["rules"]),
        grants: records(&input["grants"]),
    };
    let (head, read) = excerpt.verify(&roots(&context["roots"]))?;
    Ok(show_policy(head.fields().version, &head.fields().root, &read))
}

fn statement(input: &Value, context: &Value) -> Result<Value, Refused> {
    let roots = roots(&context["roots"]);
    let certificate = SessionCertificate::verify(&unhex(&context["certificate"]), roots.bus()).unwrap();
    let guard = GuardEpoch { epoch: number(&context["epoch"]), challenge: array(&context["challenge"]) };
    let statement = SessionStatement::verify(&unhex(&input["statement"]), roots.bus(), &certificate, guard)?;
    Ok(json!({
        "session": statement.session.to_string(),
        "keys": statement.keys.iter().map(|key| json!({
            "key": key.key.to_string(),
            "rule": key.rule,
            "label": show_label(key.label),
            "epoch": key.epoch,
            "next": key.next,
            "asker": key.asker.map(|asker| asker.to_string()),
        })).collect::<Vec<_>>(),
    }))
}

fn heartbeat(input: &Value, context: &Value) -> Result<Value, Refused> {
    let guards: Vec<_> =
        list(&context["guards"]).iter().map(|key| PublicKey::from_bytes(&array(key)).unwrap()).collect();
    let (beat, guard) = Heartbeat::verify(&unhex(&input["heartbeat"]), bus(context), &guards)?;
    Ok(json!({
        "guard": hex(guard.as_bytes()),
        "epoch": beat.guard.epoch,
        "challenge": hex(&beat.guard.challenge),
        "policy_version": beat.policy_version,
        "status_version": beat.status_version,
        "time": beat.time,
    }))
}

fn auth_token(input: &Value, context: &Value) -> Result<Value, Refused> {
    let roots = roots(&context["roots"]);
    let token = AuthToken::from_text(text(&input["auth_token"]))?;
    let member = Member::verify(&token.credential, &token.certificate, roots.bus(), &roots.issuer)?;
    Ok(json!({ "agent": member.token(), "session": member.session().to_string() }))
}
