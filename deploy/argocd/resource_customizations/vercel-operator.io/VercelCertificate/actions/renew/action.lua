-- Requests a new certificate now, and ends a wait after a failure. Any new value of the annotation does that.
local os = require("os")

if obj.metadata.annotations == nil then
  obj.metadata.annotations = {}
end
obj.metadata.annotations["vercel-operator.io/renew"] = os.date("!%Y-%m-%dT%XZ")
return obj
