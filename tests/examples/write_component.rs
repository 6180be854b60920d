//! Writes a standard strategy's component to a file, for benchmarks and tools that want one.
//!
//! `write_component NAME FILE`

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(name), Some(file)) = (arguments.next(), arguments.next()) else {
        return Err("usage: write_component NAME FILE".into());
    };
    let component = orion_bundle::component(&name).ok_or_else(|| format!("`{name}` is not bundled"))?;
    Ok(std::fs::write(file, component.bytes)?)
}
