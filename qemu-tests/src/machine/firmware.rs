//! The firmware files of Debian's package `ovmf`.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

const DIRECTORY: &str = "/usr/share/OVMF";

/// Which UEFI firmware a machine has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Firmware {
    /// Starts any application.
    Plain,
    /// The same built for 2 MiB of flash: starts applications as [`Firmware::Plain`] does, about 0.4 s
    /// sooner under TCG (2.1 against 2.5 s with variables that were used before; a first power-on costs
    /// 0.6 s more). For tests with many power cuts.
    Small,
    /// Secure Boot is on, and accepts what Debian's public test key ("snakeoil", PkKek-1-snakeoil) signed.
    SecureBootTestKey,
    /// Secure Boot is on with Microsoft's keys: it refuses all that we sign ourselves.
    SecureBootMicrosoft,
    /// Firmware that enforces Secure Boot, with variables prepared by the test.
    SecureBoot {
        /// The file with the variables to begin with; the machine gets a copy.
        variables: PathBuf,
    },
}

impl Firmware {
    /// Whether the variables are guarded by system management mode.
    pub(super) fn is_guarded(&self) -> bool {
        match self {
            Self::Plain | Self::Small => false,
            Self::SecureBootTestKey | Self::SecureBootMicrosoft | Self::SecureBoot { .. } => true,
        }
    }

    /// The code.
    pub(super) fn code(&self) -> Result<PathBuf> {
        present(Path::new(DIRECTORY).join(match self {
            Self::Plain => "OVMF_CODE_4M.fd",
            Self::Small => "OVMF_CODE.fd",
            Self::SecureBootTestKey | Self::SecureBootMicrosoft | Self::SecureBoot { .. } => {
                "OVMF_CODE_4M.secboot.fd"
            }
        }))
    }

    /// The variables of a new machine.
    pub(super) fn variables(&self) -> Result<PathBuf> {
        let directory = Path::new(DIRECTORY);
        present(match self {
            Self::Plain => directory.join("OVMF_VARS_4M.fd"),
            Self::Small => directory.join("OVMF_VARS.fd"),
            Self::SecureBootTestKey => directory.join("OVMF_VARS_4M.snakeoil.fd"),
            Self::SecureBootMicrosoft => directory.join("OVMF_VARS_4M.ms.fd"),
            Self::SecureBoot { variables } => variables.clone(),
        })
    }
}

fn present(file: PathBuf) -> Result<PathBuf> {
    if !file.is_file() {
        bail!("the firmware file {} is missing.\n  Next: run `cargo xtask doctor --fix`", file.display());
    }
    Ok(file)
}
