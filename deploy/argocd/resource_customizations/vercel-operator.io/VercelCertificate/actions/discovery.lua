-- A resource that is being deleted or is suspended is not renewed.
local idle = obj.metadata.deletionTimestamp ~= nil or obj.spec.suspend == true

return {
  ["renew"] = { ["disabled"] = idle, ["iconClass"] = "fa fa-fw fa-redo" }
}
