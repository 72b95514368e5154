//! Policy bundles and their excerpts.

use sealbus_envelope::{
    hash::{Hash, hex},
    identity::{Purpose, SigningKey},
    policy::{
        BundleHead, Excerpt, ExcerptRecord, FlowGrant, HeadFields, Hold, Leaves, Records, Tables, Zone,
        ZoneTls,
    },
    time::Millis,
};
use serde_json::json;

use super::Make;
use crate::{
    scene::{array, bin, element, nil, roots},
    world::{DAY, NOW, World, hold, label, name},
};

pub(super) fn bundles(make: &mut Make<'_, '_>) {
    let world = make.world;
    let mut put = |name: &str, code: &str, purpose: &str, bytes: &[u8]| put(make, name, code, purpose, bytes);
    let good = world.bundle(world.tables(), 3).encode();
    put("bundle", "ok", "a policy signed by two of three", &good);
    let records = world.records(world.tables());
    let leaves = records.leaves();
    let fields = records.head(3, Millis(NOW - 10 * DAY));
    let sign = |keys: &[&SigningKey], purpose: Purpose| head(&fields, keys, purpose);
    let [one, two, three] = [0, 1, 2].map(|n| &world.policy_keys[n]);
    put(
        "bundle_three_signatures",
        "ok",
        "all three sign",
        &whole(&sign(&[three, one, two], Purpose::Bundle), &leaves),
    );
    put(
        "bundle_quorum_one_short",
        "policy_invalid",
        "one signature where two are needed",
        &whole(&sign(&[one], Purpose::Bundle), &leaves),
    );
    put(
        "bundle_one_key_twice",
        "policy_invalid",
        "one key signs twice",
        &whole(&sign(&[one, one], Purpose::Bundle), &leaves),
    );
    put("bundle_unsigned", "policy_invalid", "no signature", &whole(&sign(&[], Purpose::Bundle), &leaves));
    put(
        "bundle_foreign_key",
        "policy_invalid",
        "two good signatures and one by a key that is no policy key",
        &whole(&sign(&[one, two, &world.issuer], Purpose::Bundle), &leaves),
    );
    put(
        "bundle_other_purpose",
        "policy_invalid",
        "signed as orders",
        &whole(&sign(&[one, two], Purpose::Order), &leaves),
    );
    let head = sign(&[one, three], Purpose::Bundle);
    assert_eq!(whole(&head, &leaves), good);
    let mut bent = |name: &str, purpose: &str, change: &dyn Fn(&mut Leaves)| {
        let mut leaves = leaves.clone();
        change(&mut leaves);
        put(name, "policy_invalid", purpose, &whole(&head, &leaves));
    };
    bent("bundle_rule_missing", "a rule was left out", &|leaves| _ = leaves.rules.remove(0));
    bent("bundle_rules_swapped", "two rules changed places", &|leaves| leaves.rules.swap(0, 1));
    bent("bundle_grant_missing", "a flow grant was left out", &|leaves| _ = leaves.grants.remove(0));
    bent("bundle_grants_swapped", "two flow grants changed places", &|leaves| leaves.grants.swap(0, 1));
    bent("bundle_rule_and_grant_swapped", "a rule and a flow grant changed places", &|leaves| {
        std::mem::swap(&mut leaves.rules[0], &mut leaves.grants[0]);
    });
    bent("bundle_grant_added", "a flow grant was added", &|leaves| {
        leaves.grants.push(leaves.grants[0].clone());
    });
    bent("bundle_tables_changed", "the tables are not the ones that were signed", &|leaves| {
        leaves.tables = Tables { max_readers: 1_000_000, ..world.tables() }.encode();
    });
    put("bundle_trailing_byte", "trailing_bytes", "a byte follows", &[&good[..], &[0]].concat());
    put("bundle_truncated", "truncated", "the last byte is missing", &good[..good.len() - 1]);
    let staging = World::on("staging");
    put(
        "bundle_other_bus",
        "wrong_bus",
        "the same quorum signed it for another bus",
        &signed(&staging, &staging.records(staging.tables()).leaves()),
    );
    few_records(make);
    oversight(make);
    names(make);
    zones_and_teams(make);
    misplaced(make);
}

fn put(make: &mut Make<'_, '_>, name: &str, code: &str, purpose: &str, bytes: &[u8]) {
    let context = json!({ "roots": roots(make.world) });
    make.put(name, code, purpose, "bundle", json!({ "bundle": hex(bytes) }), context);
}

fn few_records(make: &mut Make<'_, '_>) {
    let world = make.world;
    let records = Records { grants: vec![], ..world.records(world.tables()) };
    put(
        make,
        "bundle_no_grants",
        "ok",
        "a policy of tables and rules alone",
        &signed(world, &records.leaves()),
    );
    let tables = Tables { zones: vec![], teams: vec![], ..world.tables() };
    let bare = Records { tables, rules: vec![], grants: vec![], supervision: None };
    put(
        make,
        "bundle_tables_only",
        "ok",
        "a policy that lets nothing pass: no team, no zone, no rule, no flow grant",
        &signed(world, &bare.leaves()),
    );
    let keys = [&world.policy_keys[0], &world.policy_keys[1]];
    let head = head(&bare.head(3, Millis(NOW)), &keys, Purpose::Bundle);
    let four = array(&[bin(&head), bin(&bare.leaves().tables), array(&[]), array(&[])]);
    put(
        make,
        "bundle_of_four",
        "wrong_arity",
        "a bundle that says nothing of supervision, not even nil",
        &four,
    );
}

/// Holds that nobody could approve, and supervision that supervises nothing: a quorum signed them all the same.
fn oversight(make: &mut Make<'_, '_>) {
    let world = make.world;
    let mut with = |name: &str, code: &str, purpose: &str, change: &dyn Fn(&mut Records)| {
        let mut records = world.records(world.tables());
        change(&mut records);
        put(make, name, code, purpose, &signed(world, &records.leaves()));
    };
    let held = |records: &mut Records, change: &dyn Fn(&mut Hold)| {
        let mut one = hold(2);
        change(&mut one);
        records.rules[0].hold = Some(one);
    };
    with("bundle_hold_wants_none", "policy_invalid", "a hold that wants no approval", &|records| {
        held(records, &|hold| hold.approvals = 0);
    });
    with("bundle_hold_without_time", "policy_invalid", "a hold with no time to approve", &|records| {
        held(records, &|hold| hold.deadline_ms = 0);
    });
    with("bundle_hold_for_ever", "policy_invalid", "a hold of more than a day", &|records| {
        held(records, &|hold| hold.deadline_ms = 86_400_001);
    });
    with("bundle_hold_for_four", "policy_invalid", "four must approve, and three people may", &|records| {
        held(records, &|hold| hold.approvals = 4);
    });
    with(
        "bundle_hold_one_key_two_names",
        "policy_invalid",
        "two must approve, and the two names have one key",
        &|records| {
            held(records, &|hold| {
                hold.lists.truncate(1);
                hold.lists[0].people[1].1 = hold.lists[0].people[0].1.clone();
            });
        },
    );
    with(
        "bundle_hold_shared_and_spare_keys",
        "policy_invalid",
        "two must approve; ann has two keys, and bob's only key is one of hers: one person could",
        &|records| {
            held(records, &|hold| {
                let spare = hold.lists[1].people[0].1.clone();
                hold.lists.truncate(1);
                let people = &mut hold.lists[0].people;
                people[1].1 = people[0].1.clone();
                people.push((people[0].0.clone(), spare));
            });
        },
    );
    with(
        "bundle_supervision_seventeen_keys",
        "policy_invalid",
        "more keys than an order has room for",
        &|records| {
            records.supervision.as_mut().unwrap().quorums[0].1 = 17;
        },
    );
    with("bundle_supervision_order_twice", "policy_invalid", "an order's quorum twice", &|records| {
        let quorums = &mut records.supervision.as_mut().unwrap().quorums;
        quorums.push(quorums[0]);
    });
    with(
        "bundle_supervision_no_threshold",
        "policy_invalid",
        "watched from a score of nought on",
        &|records| {
            records.supervision.as_mut().unwrap().anomaly.watch = 0;
        },
    );
    with(
        "bundle_supervision_quarantined_unwatched",
        "policy_invalid",
        "quarantined from a lower score on than watched",
        &|records| records.supervision.as_mut().unwrap().anomaly.quarantine = 99,
    );
    with("bundle_supervision_signals_out_of_order", "policy_invalid", "weights out of order", &|records| {
        let weights = &mut records.supervision.as_mut().unwrap().anomaly.weights;
        weights.push((name("churn"), 1));
    });
    let leaves = world.records(world.tables()).leaves();
    let mut bent = |name: &str, code: &str, purpose: &str, from: &[u8], to: &[u8]| {
        let record = replaced(leaves.supervision.as_ref().unwrap(), from, to);
        put(
            make,
            name,
            code,
            purpose,
            &signed(world, &Leaves { supervision: Some(record), ..leaves.clone() }),
        );
    };
    // One quorum: orders of kind 3 need 2.
    bent(
        "bundle_supervision_unknown_order",
        "order_unknown",
        "the quorum of an order that no version 1 has",
        &[0x91, 0x92, 3, 2],
        &[0x91, 0x92, 99, 2],
    );
    let mut records = leaves.rules.clone();
    // Behind the observe flag and no hold comes the mode.
    records[1] = replaced(&records[1], &[0xc2, 0xc0, 2], &[0xc2, 0xc0, 3]);
    let bent = signed(world, &Leaves { rules: records, ..leaves.clone() });
    put(make, "bundle_oversight_three", "bad_encoding", "a mode of oversight that is not known", &bent);
    let without = Leaves { supervision: None, ..leaves.clone() };
    let whole = whole(&world_head(world, &leaves), &without);
    put(make, "bundle_supervision_missing", "policy_invalid", "supervision was left out", &whole);
}

fn world_head(world: &World, leaves: &Leaves) -> Vec<u8> {
    let fields = HeadFields {
        bus: world.bus(),
        version: 3,
        root: leaves.tree().root(),
        leaves: u32::try_from(leaves.count()).unwrap(),
        issued: Millis(NOW),
    };
    head(&fields, &[&world.policy_keys[0], &world.policy_keys[1]], Purpose::Bundle)
}

/// What a quorum signed, though it names something twice or in another order.
fn names(make: &mut Make<'_, '_>) {
    let world = make.world;
    let mut with = |name: &str, purpose: &str, change: &dyn Fn(&mut Records)| {
        let mut records = world.records(world.tables());
        change(&mut records);
        put(make, name, "policy_invalid", purpose, &signed(world, &records.leaves()));
    };
    with("bundle_rule_name_twice", "two rules of one name, which the quorum signed", &|records| {
        records.rules.push(records.rules[0].clone());
    });
    with("bundle_grant_name_twice", "two flow grants of one name, which the quorum signed", &|records| {
        let other = FlowGrant { to_label: label(0, 0, 7), ..records.grants[0].clone() };
        records.grants.push(other);
    });
    with("bundle_teams_out_of_order", "teams not in the order of their names", &|records| {
        records.tables.teams.swap(0, 1);
    });
    with("bundle_team_twice", "two teams of one name", &|records| {
        records.tables.teams.insert(0, records.tables.teams[0].clone());
    });
    with("bundle_zones_out_of_order", "zones not in the order of their names", &|records| {
        let first = Zone { name: name("attic"), ..records.tables.zones[0].clone() };
        records.tables.zones.push(first);
    });
    with("bundle_zone_twice", "two zones of one name, of which either could be meant", &|records| {
        let other = Zone { tls: ZoneTls::Any, ca: None, ..records.tables.zones[0].clone() };
        records.tables.zones.push(other);
    });
}

/// Tables that a quorum signed and no version 1 has: nobody may guess what they mean.
fn zones_and_teams(make: &mut Make<'_, '_>) {
    let world = make.world;
    let leaves = world.records(world.tables()).leaves();
    let mut bent = |name: &str, code: &str, purpose: &str, from: &[u8], to: &[u8]| {
        let tables = replaced(&leaves.tables, from, to);
        put(make, name, code, purpose, &signed(world, &Leaves { tables, ..leaves.clone() }));
    };
    // Clerks: zone `vault`, taint 0, observed.
    for (name, code, purpose, to) in [
        (
            "bundle_taint_scope_two",
            "bad_encoding",
            "a taint scope that is neither agent nor session",
            b"vault\x02\xc3",
        ),
        ("bundle_team_zone_bad_name", "bad_name", "a team in a zone whose name is no name", b"Vault\x00\xc3"),
        (
            "bundle_observe_is_a_number",
            "bad_encoding",
            "a team's observe is a number, not a boolean",
            b"vault\x00\x01",
        ),
    ] {
        bent(name, code, purpose, b"vault\x00\xc3", to);
    }
    // The vault: level 2, compartments 3; TLS 2, and the hash of its certificate is sevens.
    bent(
        "bundle_zone_level_sixteen",
        "bad_label",
        "a zone's ceiling above level 15",
        b"vault\x02\x03",
        b"vault\x10\x03",
    );
    bent(
        "bundle_zone_tls_three",
        "bad_encoding",
        "a demand on TLS that is not known: it must not pass for none",
        &[2, 0xc4, 32, 7],
        &[3, 0xc4, 32, 7],
    );
    bent(
        "bundle_zone_ca_short",
        "bad_length",
        "the hash of a zone's certificate has 31 bytes",
        &[&[0xc4, 32][..], &[7; 32]].concat(),
        &[&[0xc4, 31][..], &[7; 31]].concat(),
    );
    let mut with = |name: &str, purpose: &str, change: &dyn Fn(&mut Zone)| {
        let mut records = world.records(world.tables());
        change(&mut records.tables.zones[0]);
        put(make, name, "too_large", purpose, &signed(world, &records.leaves()));
    };
    with("bundle_zone_65_servers", "more servers than a zone may name", &|zone| {
        zone.servers = vec!["n".into(); 65];
    });
    with("bundle_zone_65_tags", "more tags than a zone may demand", &|zone| zone.tags = vec!["t".into(); 65]);
    with("bundle_zone_long_cluster", "a cluster's name of 129 bytes", &|zone| {
        zone.cluster = Some("c".repeat(129));
    });
}

/// Leaves in the wrong list, and leaves that are none, under a head that a quorum signed for them.
fn misplaced(make: &mut Make<'_, '_>) {
    let world = make.world;
    let leaves = world.records(world.tables()).leaves();
    let mut bent = |name: &str, code: &str, purpose: &str, change: &dyn Fn(&mut Leaves)| {
        let mut leaves = leaves.clone();
        change(&mut leaves);
        put(make, name, code, purpose, &signed(world, &leaves));
    };
    bent(
        "bundle_grant_among_rules",
        "wrong_arity",
        "the same leaves under the same root, but the first flow grant is listed as the last rule",
        &|leaves| {
            let first = leaves.grants.remove(0);
            leaves.rules.push(first);
        },
    );
    bent(
        "bundle_rule_among_grants",
        "wrong_arity",
        "the same leaves under the same root, but the last rule is listed as the first flow grant",
        &|leaves| {
            let last = leaves.rules.pop().unwrap();
            leaves.grants.insert(0, last);
        },
    );
    bent("bundle_grant_version_two", "unsupported_version", "a flow grant of another version", &|leaves| {
        leaves.grants[0][1] = 2;
    });
    bent("bundle_grant_trailing_byte", "trailing_bytes", "a byte follows a flow grant", &|leaves| {
        leaves.grants[0].push(0xc0);
    });
    bent("bundle_grant_without_end", "truncated", "a flow grant that does not say until when", &|leaves| {
        let shorter = leaves.grants[0].len() - 9;
        leaves.grants[0].truncate(shorter);
    });
    bent(
        "bundle_grant_bad_pattern",
        "bad_subject",
        "a flow grant from no subject that there is",
        &|leaves| {
            leaves.grants[0] = replaced(&leaves.grants[0], b"memo.>", b"memo>.");
        },
    );
    bent("bundle_grant_bad_label", "bad_label", "a flow grant that lifts from level 16", &|leaves| {
        leaves.grants[0] = replaced(&leaves.grants[0], &[0x93, 2, 1, 0], &[0x93, 16, 1, 0]);
    });
    bent("bundle_too_many_grants", "too_large", "more flow grants than a policy may have", &|leaves| {
        leaves.grants = vec![leaves.grants[0].clone(); 1025];
    });
}

/// `bytes` with `from`, which must stand there once, replaced.
fn replaced(bytes: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let found: Vec<_> = (0..bytes.len()).filter(|at| bytes[*at..].starts_with(from)).collect();
    assert_eq!(found.len(), 1, "{from:x?} stands there once");
    [&bytes[..found[0]], to, &bytes[found[0] + from.len()..]].concat()
}

/// A head with the signatures of these keys.
fn head(fields: &HeadFields, keys: &[&SigningKey], purpose: Purpose) -> Vec<u8> {
    let signatures: Vec<_> =
        keys.iter().map(|key| (key.public().clone(), key.sign(purpose, &fields.encode()))).collect();
    BundleHead::assemble(fields, &signatures)
}

/// A bundle of a head and leaves, whatever they are.
fn whole(head: &[u8], leaves: &Leaves) -> Vec<u8> {
    let list = |leaves: &[Vec<u8>]| {
        let mut list = element(|w| {
            w.array(leaves.len());
        });
        list.extend(leaves.iter().flat_map(|leaf| bin(leaf)));
        list
    };
    let supervision = leaves.supervision.as_ref().map_or_else(nil, |leaf| bin(leaf));
    array(&[bin(head), bin(&leaves.tables), list(&leaves.rules), list(&leaves.grants), supervision])
}

/// Whatever the leaves say, a quorum signed them.
fn signed(world: &World, leaves: &Leaves) -> Vec<u8> {
    whole(&world_head(world, leaves), leaves)
}

pub(super) fn excerpts(make: &mut Make<'_, '_>) {
    let world = make.world;
    let bundle = world.bundle(world.tables(), 3);
    let good = bundle.excerpt(|rule| rule.name.as_str() != "closed");
    let mut put = |name: &str, code: &str, purpose: &str, excerpt: &Excerpt| {
        let path = |path: &[Hash]| path.iter().map(|hash| hex(hash)).collect::<Vec<_>>();
        let records = |records: &[ExcerptRecord]| {
            let show = |record: &ExcerptRecord| {
                json!({
                    "index": record.index, "record": hex(&record.record), "path": path(&record.path),
                })
            };
            records.iter().map(show).collect::<Vec<_>>()
        };
        let input = json!({
            "head": hex(&excerpt.head),
            "tables": hex(&excerpt.tables),
            "tables_path": path(&excerpt.tables_path),
            "rules": records(&excerpt.rules),
            "grants": records(&excerpt.grants),
        });
        make.put(name, code, purpose, "excerpt", input, json!({ "roots": roots(world) }));
    };
    put(
        "excerpt",
        "ok",
        "the rules that concern one client and the flow grants of use under them, each provable alone",
        &good,
    );
    put("excerpt_tables_only", "ok", "no rule concerns the client", &bundle.excerpt(|_| false));
    let memos = bundle.excerpt(|rule| rule.name.as_str() == "memos");
    assert!(memos.grants.is_empty());
    put("excerpt_no_grants", "ok", "no flow grant is of use under the client's only rule", &memos);
    let mut bent = good.clone();
    (bent.tables, bent.tables_path) = (bent.rules[0].record.clone(), bent.rules[0].path.clone());
    put("excerpt_rule_as_tables", "policy_invalid", "a rule's leaf passed off as the tables", &bent);
    let mut bent = good.clone();
    (bent.rules[0].index, bent.rules[0].record, bent.rules[0].path) =
        (0, good.tables.clone(), good.tables_path.clone());
    put("excerpt_tables_as_rule", "policy_invalid", "the tables passed off as a rule", &bent);
    let mut bent = good.clone();
    bent.rules[0].index = 2;
    put("excerpt_other_index", "policy_invalid", "a rule at another rule's place", &bent);
    let mut bent = good.clone();
    bent.rules[0].path[0][0] ^= 1;
    put("excerpt_forged_path", "policy_invalid", "a sibling is not the one that was signed", &bent);
    let mut bent = good.clone();
    bent.rules[0].record[20] ^= 1;
    put("excerpt_forged_rule", "policy_invalid", "a rule is not the one that was signed", &bent);
    let mut bent = good.clone();
    bent.rules[0].index = bundle.head().fields().leaves;
    put("excerpt_index_out_of_range", "policy_invalid", "an index that is the number of leaves", &bent);
    let mut bent = good.clone();
    let grant = bent.grants.remove(0);
    bent.rules.push(grant);
    put("excerpt_grant_as_rule", "wrong_arity", "a flow grant's leaf passed off as a rule", &bent);
    let mut bent = good.clone();
    let rule = bent.rules.remove(0);
    bent.grants.push(rule);
    put("excerpt_rule_as_grant", "wrong_arity", "a rule's leaf passed off as a flow grant", &bent);
    let mut bent = good.clone();
    bent.grants[0] = ExcerptRecord { index: 0, record: good.tables.clone(), path: good.tables_path.clone() };
    put("excerpt_tables_as_grant", "policy_invalid", "the tables passed off as a flow grant", &bent);
    let mut bent = good.clone();
    bent.grants[0].index += 1;
    put("excerpt_grant_other_index", "policy_invalid", "a flow grant at another one's place", &bent);
    let mut bent = good.clone();
    bent.grants[0].path[0][0] ^= 1;
    put(
        "excerpt_grant_forged_path",
        "policy_invalid",
        "a sibling of a flow grant is not the signed one",
        &bent,
    );
    let mut bent = good.clone();
    bent.grants[0].record = FlowGrant { to_label: label(0, 0, 0), ..world.grants().remove(0) }.encode();
    put(
        "excerpt_grant_forged",
        "policy_invalid",
        "a flow grant leads lower than the one that was signed",
        &bent,
    );
    let mut bent = good;
    bent.grants[0].path.pop();
    put("excerpt_grant_short_path", "policy_invalid", "a flow grant's path ends before the root", &bent);
}
