<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>
<qgis version="3.22.0" styleCategories="Symbology|Fields|Forms|MapTips|AttributeTable">
  <!-- A square of the pixel's size, to judge what lies in it, and 2 mm where that is larger. It
       looks the same in all strata: who knows what the map says sees that on the ground, too. -->
  <renderer-v2 type="RuleRenderer" symbollevels="0" forceraster="0" enableorderby="0">
    <rules key="{sample}">
      <rule key="{sample-open}" symbol="0" label="to be labelled" filter="coalesce(&quot;reference&quot;, '') = ''"/>
      <rule key="{sample-done}" symbol="1" label="labelled" filter="ELSE"/>
    </rules>
    <symbols>
      <symbol name="0" type="marker" alpha="1" clip_to_extent="1" force_rhr="0">
        <layer class="SimpleMarker" enabled="1" locked="0" pass="0">
          <Option type="Map">
            <Option name="name" type="QString" value="square"/>
            <Option name="color" type="QString" value="0,0,0,0"/>
            <Option name="outline_color" type="QString" value="255,0,255,255"/>
            <Option name="outline_style" type="QString" value="solid"/>
            <Option name="outline_width" type="QString" value="0.5"/>
            <Option name="outline_width_unit" type="QString" value="MM"/>
            <Option name="size" type="QString" value="$pixel"/>
            <Option name="size_unit" type="QString" value="MapUnit"/>
            <Option name="size_map_unit_scale" type="QString" value="3x:0,0,1,2,0,0"/>
          </Option>
        </layer>
      </symbol>
      <symbol name="1" type="marker" alpha="1" clip_to_extent="1" force_rhr="0">
        <layer class="SimpleMarker" enabled="1" locked="0" pass="0">
          <Option type="Map">
            <Option name="name" type="QString" value="square"/>
            <Option name="color" type="QString" value="0,0,0,0"/>
            <Option name="outline_color" type="QString" value="0,220,255,255"/>
            <Option name="outline_style" type="QString" value="solid"/>
            <Option name="outline_width" type="QString" value="0.5"/>
            <Option name="outline_width_unit" type="QString" value="MM"/>
            <Option name="size" type="QString" value="$pixel"/>
            <Option name="size_unit" type="QString" value="MapUnit"/>
            <Option name="size_map_unit_scale" type="QString" value="3x:0,0,1,2,0,0"/>
          </Option>
        </layer>
      </symbol>
    </symbols>
  </renderer-v2>
  <fieldConfiguration>
    <field name="sample_id">
      <editWidget type="TextEdit"><config><Option/></config></editWidget>
    </field>
    <field name="reference">
      <editWidget type="ValueMap">
        <config><Option type="Map">
          <Option name="map" type="List">$classes</Option>
        </Option></config>
      </editWidget>
    </field>
    <field name="confidence">
      <editWidget type="ValueMap">
        <config><Option type="Map">
          <Option name="map" type="List">
            <Option type="Map"><Option name="high" type="QString" value="high"/></Option>
            <Option type="Map"><Option name="medium" type="QString" value="medium"/></Option>
            <Option type="Map"><Option name="low" type="QString" value="low"/></Option>
          </Option>
        </Option></config>
      </editWidget>
    </field>
    <field name="note">
      <editWidget type="TextEdit"><config><Option/></config></editWidget>
    </field>
  </fieldConfiguration>
  <aliases>
    <alias field="sample_id" index="1" name="Point"/>
    <alias field="reference" index="2" name="What is it?"/>
    <alias field="confidence" index="3" name="How sure?"/>
    <alias field="note" index="4" name="Note"/>
    <alias field="stratum" index="5" name="Code in the map"/>
    <alias field="stratum_name" index="6" name="Class in the map"/>
    <alias field="row" index="7" name="Row of the pixel"/>
    <alias field="col" index="8" name="Column of the pixel"/>
  </aliases>
  <editable>
    <field name="sample_id" editable="0"/>
    <field name="reference" editable="1"/>
    <field name="confidence" editable="1"/>
    <field name="note" editable="1"/>
    <field name="stratum" editable="0"/>
    <field name="stratum_name" editable="0"/>
    <field name="row" editable="0"/>
    <field name="col" editable="0"/>
  </editable>
  <attributetableconfig actionWidgetStyle="dropDown" sortExpression="&quot;sample_id&quot;" sortOrder="0">
    <columns>
      <column type="field" name="fid" hidden="1" width="-1"/>
      <column type="field" name="sample_id" hidden="0" width="-1"/>
      <column type="field" name="reference" hidden="0" width="-1"/>
      <column type="field" name="confidence" hidden="0" width="-1"/>
      <column type="field" name="note" hidden="0" width="-1"/>
      <column type="field" name="stratum" hidden="1" width="-1"/>
      <column type="field" name="stratum_name" hidden="1" width="-1"/>
      <column type="field" name="row" hidden="1" width="-1"/>
      <column type="field" name="col" hidden="1" width="-1"/>
      <column type="actions" hidden="1" width="-1"/>
    </columns>
  </attributetableconfig>
  <editorlayout>tablayout</editorlayout>
  <!-- Here and in the table without the stratum, for the same reason. -->
  <attributeEditorForm>
    <attributeEditorContainer name="Label" columnCount="1" groupBox="1" showLabel="1" visibilityExpressionEnabled="0" visibilityExpression="">
      <attributeEditorField name="sample_id" index="1" showLabel="1"/>
      <attributeEditorField name="reference" index="2" showLabel="1"/>
      <attributeEditorField name="confidence" index="3" showLabel="1"/>
      <attributeEditorField name="note" index="4" showLabel="1"/>
    </attributeEditorContainer>
  </attributeEditorForm>
  <previewExpression>'Point ' || to_string("sample_id")</previewExpression>
</qgis>
