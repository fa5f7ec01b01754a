//! Statistics over 10^5 datagrams at fixed seeds, and the promises of the room's page.
