//! `sealbus approvals key`: an approver's own key.

use std::path::PathBuf;

use rand_core::UnwrapErr;
use sealbus_envelope::identity::{KeyKind, SigningKey};
use serde_json::json;

use crate::{
    cli::{
        failure::Failure,
        output::{Output, STRONG, paint},
    },
    keyfile::{create_secret, read_seed},
};

const EXAMPLES: &str = "\
Examples:
  sealbus approvals key ann.seed          make it; nobody but you may read the file
  sealbus approvals key ann.seed --show   print the public half again

Each person makes a key on their own machine and gives the public half to whoever writes the
policy, which names them:

  [approvers.duty]
  ann = \"UA…\"";

/// Make an approver's key, and print its public half
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Where the seed goes; what stands there is never replaced
    file: PathBuf,
    /// Make none: print the public half of the one that is there
    #[arg(long)]
    show: bool,
}

pub(crate) fn run(args: &Args, output: &Output) -> Result<(), Failure> {
    let key = if args.show {
        read_seed(&args.file, KeyKind::User)?
    } else {
        let key = SigningKey::generate(&mut UnwrapErr(getrandom::SysRng));
        create_secret(&args.file, &format!("{}\n", key.to_nkey_seed(KeyKind::User).as_str()))?;
        key
    };
    let public = key.public().to_nkey(KeyKind::User);
    let object = json!({ "file": args.file, "public": public });
    let remark = if args.show {
        String::new()
    } else {
        format!("\nIts seed is in {}. Name it in the policy under [approvers.LIST].", args.file.display())
    };
    output.show(&object, format!("{}{remark}", paint(STRONG, &public)))
}
