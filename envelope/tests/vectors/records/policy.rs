//! Policy bundles and their excerpts.

use sealbus_envelope::{
    hash::{Hash, hex},
    identity::{Purpose, SigningKey},
    policy::{BundleHead, Excerpt, ExcerptRecord, HeadFields, Leaves, Records},
    time::Millis,
};
use serde_json::json;

use super::Make;
use crate::{
    scene::{array, bin, roots},
    world::{DAY, NOW, World},
};

pub(super) fn bundles(make: &mut Make<'_, '_>) {
    let world = make.world;
    let mut put = |name: &str, code: &str, purpose: &str, bytes: &[u8]| {
        make.put(
            name,
            code,
            purpose,
            "bundle",
            json!({ "bundle": hex(bytes) }),
            json!({ "roots": roots(world) }),
        );
    };
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
    let signed = sign(&[one, three], Purpose::Bundle);
    assert_eq!(whole(&signed, &leaves), good);
    let mut bent = |name: &str, purpose: &str, change: &dyn Fn(&mut Leaves)| {
        let mut leaves = leaves.clone();
        change(&mut leaves);
        put(name, "policy_invalid", purpose, &whole(&signed, &leaves));
    };
    bent("bundle_rule_missing", "a rule was left out", &|leaves| _ = leaves.rules.remove(0));
    bent("bundle_rules_swapped", "two rules changed places", &|leaves| leaves.rules.swap(0, 1));
    bent("bundle_tables_changed", "the tables are not the ones that were signed", &|leaves| {
        leaves.tables =
            sealbus_envelope::policy::Tables { max_readers: 1_000_000, ..world.tables() }.encode();
    });
    put("bundle_trailing_byte", "trailing_bytes", "a byte follows", &[&good[..], &[0]].concat());
    put("bundle_truncated", "truncated", "the last byte is missing", &good[..good.len() - 1]);
    let doubled =
        Records { rules: [world.rules(), vec![world.rules().remove(0)]].concat(), ..records.clone() };
    put(
        "bundle_rule_name_twice",
        "policy_invalid",
        "two rules of one name, which the quorum signed",
        &signed_whole(world, &doubled),
    );
    let staging = World::on("staging");
    put(
        "bundle_other_bus",
        "wrong_bus",
        "the same quorum signed it for another bus",
        &signed_whole(world, &staging.records(staging.tables())),
    );
}

/// A head with the signatures of these keys.
fn head(fields: &HeadFields, keys: &[&SigningKey], purpose: Purpose) -> Vec<u8> {
    let signatures: Vec<_> =
        keys.iter().map(|key| (key.public().clone(), key.sign(purpose, &fields.encode()))).collect();
    BundleHead::assemble(fields, &signatures)
}

/// A bundle of a head and leaves, whatever they are.
fn whole(head: &[u8], leaves: &Leaves) -> Vec<u8> {
    let list = |leaves: &[Vec<u8>]| array(&leaves.iter().map(|leaf| bin(leaf)).collect::<Vec<_>>());
    array(&[bin(head), bin(&leaves.tables), list(&leaves.rules), list(&leaves.grants)])
}

/// Whatever the records say, a quorum signed them.
fn signed_whole(world: &World, records: &Records) -> Vec<u8> {
    let keys = [&world.policy_keys[0], &world.policy_keys[1]];
    whole(&head(&records.head(3, Millis(NOW)), &keys, Purpose::Bundle), &records.leaves())
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
    put("excerpt", "ok", "the rules that concern one client, each provable alone", &good);
    put("excerpt_tables_only", "ok", "no rule concerns the client", &bundle.excerpt(|_| false));
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
    let mut bent = good;
    bent.rules[0].index = 1 + u32::try_from(world.rules().len() + world.grants().len()).unwrap();
    put("excerpt_index_out_of_range", "policy_invalid", "an index that is the number of leaves", &bent);
}
