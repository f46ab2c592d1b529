-- Asks for a new certificate now, and ends any wait after a failure: any new value of the annotation does.
local os = require("os")

if obj.metadata.annotations == nil then
  obj.metadata.annotations = {}
end
obj.metadata.annotations["vercel-operator.io/renew"] = os.date("!%Y-%m-%dT%XZ")
return obj
