-- The health of a VercelCertificate, from the conditions that vercel-certificate-operator writes. Each reason of theirs is
-- explained in the operator's docs/how-it-works.md; the conditions in docs/resource.md.
--
-- Ready says whether a certificate that covers spec.cns and has not expired exists. It stays True while another one is
-- being issued or could not be; Issuing tells of that.

local function condition(name)
  if obj.status ~= nil and obj.status.conditions ~= nil then
    for _, found in ipairs(obj.status.conditions) do
      if found.type == name then
        return found
      end
    end
  end
  return {}
end

local ready = condition("Ready")
local issuing = condition("Issuing")
local observed = obj.status ~= nil and obj.status.observedGeneration or 0

-- Argo CD itself says "Pending deletion" of what is being deleted; this is for whoever runs the script alone.
if obj.metadata.deletionTimestamp ~= nil then
  return { status = "Progressing", message = ready.message or "The resource is being deleted." }
end

if ready.status == nil then
  return { status = "Progressing", message = "Waiting for the operator." }
end

if obj.metadata.generation ~= nil and observed < obj.metadata.generation then
  return { status = "Progressing", message = "Waiting for the operator to see the change of spec." }
end

if obj.spec.suspend then
  return { status = "Suspended", message = ready.message }
end

if ready.status == "True" then
  local message = ready.message
  if issuing.reason ~= nil and issuing.reason ~= "Issued" then
    -- What keeps the renewal from happening is what somebody who looks wants to know of.
    message = message .. " " .. issuing.reason .. ": " .. issuing.message
  end
  return { status = "Healthy", message = message }
end

if issuing.status == "True" or ready.reason == "FirstIssue" then
  return { status = "Progressing", message = ready.message }
end

return { status = "Degraded", message = ready.reason .. ": " .. ready.message }
