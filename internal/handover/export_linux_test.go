package handover

// What tests need of the inside.
const ReadyWord = ready

var ServeWithin = serve
