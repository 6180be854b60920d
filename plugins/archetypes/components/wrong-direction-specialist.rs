//! The component `wrong-direction-specialist`.

orion_sdk::export!(orion_archetypes::WrongDirectionSpecialist);
