//! The component `reward`.

orion_sdk::export_reward!(orion_reward::TurnReward);
