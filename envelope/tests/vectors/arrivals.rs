//! Arrivals at a guard: an envelope judged by its sender's session, the policy and the guard's clock.

use sealbus_envelope::{hash::hex, subject::WireSubjects};
use serde_json::json;

use crate::{
    Vectors,
    file::Vector,
    scene::{Scene, at, bin, member, refused, uint},
    world::{NOW, PLAIN, World, label},
};

/// The envelope of `scene` as its sender's session publishes it: at [`NOW`], under a key that it opened and whose
/// next sequence number is the envelope's.
pub(crate) fn arrival(scene: &Scene<'_>, purpose: &str) -> Vector {
    let scope = scene.key.scope();
    let mut context = scene.context();
    context["me"] = member(&scene.members[0]);
    context["open"] = json!([{
        "key": scene.key.id().to_string(),
        "rule": scope.rule,
        "label": [scope.label.level.number(), scope.label.compartments.bits(), scope.label.integrity.number()],
        "next": scene.sequence,
    }]);
    context["keys"] = json!([]);
    Vector {
        purpose: purpose.to_owned(),
        kind: "arrival".to_owned(),
        input: json!({
            "envelope": hex(&scene.envelope()),
            "subject": WireSubjects::default().ingress(scene.members[0].token(), scene.logical),
        }),
        context,
        expect: json!(null),
    }
}

pub(crate) fn make(world: &World, vectors: &mut Vectors) {
    let scene = Scene::new(world, "arrival");
    vectors.good("arrival", arrival(&scene, "what the sender's session sent, as the broker attests it"));
    let brief =
        |subject| Scene::from_to(world, "brief", "collector", "brief", subject, label(1, 0b01, 0), "analyst");
    let fits = brief("brief.x");
    assert_eq!(fits.envelope().len(), PLAIN as usize, "PLAIN is the size of this envelope");
    vectors.good("arrival_size_edge", arrival(&fits, "an envelope as large as the rule takes"));
    let large = brief("brief.xx").with(|s| s.tables.observe = true);
    vectors.good(
        "arrival_observed_too_big_for_rule",
        arrival(&large, "one byte more than the rule takes, on a bus that is observed"),
    );
    let mut hostile = |name: &str, code: &str, mut vector: Vector| {
        vector.expect = refused(code);
        vectors.hostile(name, vector);
    };
    let timed = |at: u64| Scene::new(world, "arrival").set(at::ISSUED, uint(at));
    hostile(
        "arrival_stale",
        "stale",
        arrival(&timed(NOW - 60_001), "sealed 60.001 s ago: the window is 60 s"),
    );
    hostile("arrival_from_future", "from_future", arrival(&timed(NOW + 60_001), "sealed 60.001 s ahead"));
    hostile(
        "arrival_expired",
        "expired",
        arrival(&timed(NOW - 20).set(at::TTL, uint(10)), "its own time-to-live is over on arrival"),
    );
    let mut replay = arrival(&scene, "the next sequence number is higher");
    replay.context["open"][0]["next"] = json!(8);
    hostile("arrival_replay", "replay", replay);
    let mut unknown = arrival(&scene, "the session never opened this key");
    unknown.context["open"] = json!([]);
    hostile("arrival_unknown_key", "unknown_key", unknown);
    let mut other_rule = arrival(&scene, "the session opened this key for another rule");
    other_rule.context["open"][0]["rule"] = json!("drafts");
    hostile("arrival_key_of_another_rule", "key_mismatch", other_rule);

    hostile(
        "arrival_too_big_for_rule",
        "too_big_for_rule",
        arrival(&brief("brief.xx"), "one byte more than the rule takes"),
    );
    let reply = Scene::new(world, "arrival").set(at::REQUEST, bin(&[9; 32]));
    hostile(
        "arrival_reply_on_a_stream_rule",
        "wrong_pattern",
        arrival(&reply, "a publisher of a stream replies: streams are not answered"),
    );

    let mut on = |name: &str, code: &str, purpose: &str, subject: String| {
        let mut vector = arrival(&scene, purpose);
        vector.input["subject"] = json!(subject);
        hostile(name, code, vector);
    };
    let ingress = |agent: &str, subject: &str| {
        WireSubjects::default().ingress(world.agents[agent].member.token(), subject)
    };
    on(
        "arrival_other_subject",
        "wrong_subject",
        "the header names another logical subject than the wire",
        ingress("collector", "collect.other"),
    );
    on(
        "arrival_in_anothers_name",
        "unknown_session",
        "the broker attests another agent",
        ingress("gatherer", scene.logical),
    );
    let own = ingress("collector", scene.logical);
    on(
        "arrival_slot_with_zero",
        "bad_subject",
        "the slot has a leading zero",
        own.replacen("sb.in.", "sb.in.0", 1),
    );
    let slot = scene.decision.partition;
    let other = own.replacen(&format!("sb.in.{slot}."), &format!("sb.in.{}.", (slot + 1) % 64), 1);
    on("arrival_other_slot", "wrong_subject", "the slot is not the agent's", other);
}
