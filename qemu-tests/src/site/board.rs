//! A site whose witness is the firmware on its board.

use std::path::Path;
use std::sync::Arc;

use anyhow::Result;

use super::ground::Ground;
use super::{Part, Site, Third};
use crate::artefacts::Artefacts;
use crate::lab::Lab;
use crate::switch::trunk::Trunk;
use crate::witness::board::{Parts, Wire};
use crate::witness::device::Device;
use crate::witness::outlet::Outlet;
use crate::witness::site::{Pace, card};
use crate::witness::strip::{Load, Strip};

impl Site {
    /// As [`Site::new`], with the firmware `elf` as its witness. With `fencing`, tables of that name, both
    /// nodes hang on its power strip, a1 on outlet 1.
    ///
    /// # Errors
    /// As [`Site::new`], and when the card cannot be made.
    pub fn with_board(
        artefacts: &Artefacts,
        lab: &Lab,
        image: &Path,
        elf: &Path,
        pace: Pace,
        fencing: &str,
    ) -> Result<Self> {
        let ground = Ground::new(artefacts, lab, &format!("{}\n{fencing}", pace.toml()))?;
        on_board(ground, artefacts, lab, image, elf, !fencing.is_empty())
    }

    /// As [`Site::with_volumes`], with the firmware `elf` as its witness.
    ///
    /// # Errors
    /// As [`Site::with_board`].
    pub fn with_volumes_and_board(
        artefacts: &Artefacts,
        lab: &Lab,
        image: &Path,
        elf: &Path,
        pace: Pace,
    ) -> Result<Self> {
        let mut ground = Ground::new(artefacts, lab, &pace.toml())?;
        ground.volumes = true;
        on_board(ground, artefacts, lab, image, elf, false)
    }
}

fn on_board(
    ground: Ground,
    artefacts: &Artefacts,
    lab: &Lab,
    image: &Path,
    elf: &Path,
    is_fenced: bool,
) -> Result<Site> {
    let rigs = ground.rigs(artefacts, lab, image)?;
    let image = artefacts.path("witness.card");
    let file = ground.written(artefacts, Part::A)?;
    card(lab, &file, &image)?;
    let [_, _, [one, two]] = &ground.ports;
    let trunk = Trunk::new(artefacts, "w", [([10, 71, 1], one), ([10, 71, 2], two)])?;
    let wire = Wire::Trunk(Arc::new(trunk));
    let outlets: [Outlet; 2] = Default::default();
    let loads = outlets.iter().map(|outlet| Box::new(outlet.clone()) as Box<dyn Load>).collect();
    let strip = Strip::start(&artefacts.socket("strip"), loads)?;
    let plug = is_fenced.then(|| strip.socket().to_owned());
    let control = artefacts.socket("w.qmp");
    let parts = Parts { elf: elf.into(), card: Some(image), strip: plug, wire, control };
    let device = Device::new(parts, &ground.permit);
    let site = ground.site(rigs, Third::Board(Box::new(device)));
    Ok(Site { power: Some((outlets, strip)), ..site })
}
