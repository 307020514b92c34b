//! Removes debug sections from an object and keeps what the kernel and loaders read: code, maps,
//! symbols, relocations and BTF. Done here so that no toolchain needs an extra program for it.

use anyhow::{Result, ensure};
use object::{
    build::elf::{Builder, SectionData},
    elf::SHT_STRTAB,
};

pub(super) fn debug_sections(elf: &[u8]) -> Result<Vec<u8>> {
    let mut builder = Builder::read(elf)?;
    for section in &mut builder.sections {
        let name = section.name.as_slice();
        if name.starts_with(b".debug_") || name.starts_with(b".rel.debug_") {
            section.delete = true;
        }
    }
    builder.delete_orphans();
    ensure!(
        builder.sections.iter().any(|section| section.name.as_slice() == b".BTF"),
        "it has no .BTF section"
    );
    // LLVM keeps section names in .strtab too; the writer wants a table of their own.
    if !builder.sections.iter().any(|s| matches!(s.data, SectionData::SectionString)) {
        let names = builder.sections.add();
        names.name = ".shstrtab".into();
        names.sh_type = SHT_STRTAB;
        names.sh_addralign = 1;
        names.data = SectionData::SectionString;
    }
    let mut stripped = Vec::new();
    builder.write(&mut stripped)?;
    Ok(stripped)
}
