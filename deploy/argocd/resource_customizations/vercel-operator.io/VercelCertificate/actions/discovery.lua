-- Renewing makes no sense for what is going, and nothing comes of it while suspended.
local idle = obj.metadata.deletionTimestamp ~= nil or obj.spec.suspend == true

return {
  ["renew"] = { ["disabled"] = idle, ["iconClass"] = "fa fa-fw fa-redo" }
}
