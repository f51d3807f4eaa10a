-- How Argo CD sees a ClassifierExpansion. Argo offers no string library here; base, table and os.date are all there is.
local hs = { status = "Progressing", message = "Waits for the operator to look at it." }
local status = obj.status
if status == nil or status.observedGeneration ~= obj.metadata.generation then
  return hs
end

local conditions = {}
for _, condition in ipairs(status.conditions or {}) do
  conditions[condition.type] = condition
end

local function holds(kind)
  return conditions[kind] ~= nil and conditions[kind].status == "True"
end

local function said(kind)
  local condition = conditions[kind]
  if condition == nil then
    return "The operator has not said yet."
  end
  if condition.message == nil or condition.message == "" then
    return condition.reason
  end
  return condition.reason .. ": " .. condition.message
end

-- Before Suspended: a resource that is refused stays refused when it is resumed.
if holds("Stalled") then
  hs.status = "Degraded"
  hs.message = said("Stalled")
  return hs
end

if holds("Suspended") then
  hs.status = "Suspended"
  hs.message = "No run is started. What is served stays served."
  return hs
end

if holds("Ready") and not holds("Reconciling") then
  hs.status = "Healthy"
  hs.message = conditions["Ready"].message
  return hs
end

hs.message = said("Ready")
local run = status.run
if run ~= nil and run.outcome == nil and run.percent ~= nil then
  hs.message = hs.message .. " " .. (run.stage or "training") .. ", " .. tostring(run.percent) .. " %."
end
return hs
